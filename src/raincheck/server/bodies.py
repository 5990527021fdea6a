"""Bodies: how they must be sent, and what they say. User values stay the JSON they came as."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.clock import from_datetime
from raincheck.codec import check_json
from raincheck.documents import Moment
from raincheck.errors import Fault, InvalidInput, NotJSON
from raincheck.functions import Functions
from raincheck.limits import Limits
from raincheck.model import Job, Seconds, Step
from raincheck.requests import Name, Object, Priority, Stages, check_containers, decoded, steps_of
from raincheck.server.exchange import Request
from raincheck.server.refusals import MALFORMED, MEDIA_TYPE, Refused
from raincheck.submission import draft


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for a token; ``scope`` asks for less than all that is theirs, names divided by blanks."""

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    scope: Annotated[str, Meta(max_length=100)] | None = None

    def __repr__(self) -> str:
        return f"TokenRequest({self.username!r})"


class JobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new job. An entry of ``functions`` that is a list is a stage whose members run together."""

    name: Name
    functions: Stages
    data: Object = field(default_factory=partial(Raw, b"{}"))
    delay: Seconds | None = None
    scheduled_at: Moment | None = None
    expires_at: Moment | None = None
    priority: Priority = 0
    result_ttl: Seconds | None = None


_decode_token = msgspec.json.Decoder(TokenRequest).decode
_decode_job = msgspec.json.Decoder(JobRequest).decode
_JSON_TYPE = re.compile(
    rb"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE
)


async def json_body(request: Request) -> bytes:
    """The body, which is JSON beyond doubt; empty if there is none. Raises `Refused` or `TooLarge`."""
    headers = request.headers
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(MEDIA_TYPE, "a body must not be compressed: send it as it is")
    sent_as = headers.get(b"content-type")
    if sent_as is not None and not _JSON_TYPE.fullmatch(sent_as):
        raise Refused(MEDIA_TYPE, "send JSON in UTF-8, with Content-Type: application/json")
    body = await request.body()
    if not body:
        return body
    if sent_as is None:
        raise Refused(MEDIA_TYPE, "say what the body is, with Content-Type: application/json")
    try:
        check_json(body)
    except NotJSON as error:
        raise Refused(MALFORMED, f"{error}: send one JSON document in UTF-8") from None
    return body


def job_from(body: bytes, now: float, functions: Functions, limits: Limits) -> Job:
    """The draft of a job that ``POST /v1/job`` asks for. Raises `InvalidInput` with every fault."""
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send at least {"name": …, "functions": [{"name": …}]}')
    asked = decoded(_decode_job, body)
    check_containers(asked.data, asked.functions)
    return draft(
        asked.name,
        steps_of(asked.functions),
        data=bytes(asked.data),
        now=now,
        delay=asked.delay,
        scheduled_at=None if asked.scheduled_at is None else from_datetime(asked.scheduled_at),
        expires_at=None if asked.expires_at is None else from_datetime(asked.expires_at),
        priority=asked.priority,
        result_ttl=asked.result_ttl,
        functions=functions,
        limits=limits,
    )


def token_request(body: bytes) -> TokenRequest:
    """What ``POST /v1/token`` is asked. Raises `InvalidInput`."""
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send {"username": …, "password": …}')
    return decoded(_decode_token, body)


def call_from(body: bytes, name: str, now: float, functions: Functions, limits: Limits) -> Job:
    """The draft of a job that calls one function: an array by position, an object by name."""
    body = body.strip()
    if body[:1] not in (b"", b"[", b"{"):
        raise InvalidInput(Fault("send an array (arguments by position) or an object (by name)"))
    named = body[:1] == b"{"
    step = Step(name, 0, b"[]" if named else body or b"[]", body if named else b"{}")
    try:
        return draft(name, [step], now=now, functions=functions, limits=limits)
    except InvalidInput as error:
        raise type(error)(*map(_in_the_body, error.faults)) from None


def _in_the_body(fault: Fault) -> Fault:
    """A fault of the job's only step, as one of the body that holds just its arguments."""
    pointer = re.sub(r"^/functions/0(/args|/kwargs)?", "", fault.pointer)
    return fault._replace(pointer=pointer)
