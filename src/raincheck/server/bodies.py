"""Bodies: how they must be sent, and what they say. User values stay the JSON they came as."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from raincheck.core.codec import check_json
from raincheck.core.errors import NotJSON
from raincheck.engine.requests import JobRequest, decode_job, decoded
from raincheck.server.http import Request
from raincheck.server.refusals import MALFORMED, MEDIA_TYPE, Refused


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for a token; ``scope`` asks for less than all that is theirs, names divided by blanks."""

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    scope: Annotated[str, Meta(max_length=100)] | None = None

    def __repr__(self) -> str:
        return f"TokenRequest({self.username!r})"


_decode_token = msgspec.json.Decoder(TokenRequest).decode
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


def job_request(body: bytes) -> JobRequest:
    """What ``POST /v1/job`` is asked. Raises `InvalidInput` for fields of the wrong type."""
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send at least {"name": …, "functions": [{"name": …}]}')
    return decoded(decode_job, body)


def token_request(body: bytes) -> TokenRequest:
    """What ``POST /v1/token`` is asked. Raises `InvalidInput`."""
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send {"username": …, "password": …}')
    return decoded(_decode_token, body)
