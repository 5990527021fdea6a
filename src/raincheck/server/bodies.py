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
from raincheck.functions import NAME, NAME_LIMIT, Functions
from raincheck.limits import Limits
from raincheck.model import LONGEST, CatchUp, Job, RetryOptions, Schedule, Seconds, Step
from raincheck.schedules.definition import GRACE, define
from raincheck.schedules.timetable import CRON_LENGTH, SHORTEST
from raincheck.server.exchange import Request
from raincheck.server.refusals import MALFORMED, MEDIA_TYPE, Refused
from raincheck.signature import escape, fault_of
from raincheck.submission import MAX_PRIORITY, draft

Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Timeout = Annotated[float, Meta(gt=0, le=LONGEST)]
Interval = Annotated[float, Meta(ge=SHORTEST, le=LONGEST)]
Arguments = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {}})]
Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1})]
FunctionName = Annotated[
    str, Meta(extra_json_schema={"maxLength": NAME_LIMIT, "pattern": f"^{NAME.pattern}$"})
]


class FunctionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a new job's ``functions``.

    ``retry_count`` is for those who send back what they read: a new job has made no attempts.
    """

    name: FunctionName
    args: Arguments = field(default_factory=partial(Raw, b"[]"))
    kwargs: Object = field(default_factory=partial(Raw, b"{}"))
    retry_count: Annotated[int, Meta(ge=0, le=0)] = 0
    retry_options: RetryOptions | None = None
    timeout: Timeout | None = None


Together = Annotated[list[FunctionRequest], Meta(extra_json_schema={"minItems": 1})]
Stages = Annotated[list[FunctionRequest | Together], Meta(extra_json_schema={"minItems": 1})]


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


class ScheduleRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """When a schedule fires, by ``cron`` in a ``zone`` or ``every`` so many seconds, and the job it makes.

    ``functions``, ``data``, ``priority`` and ``result_ttl`` are the job's, which must end in ``expires_in``
    seconds.
    """

    functions: Stages
    cron: Annotated[str, Meta(max_length=CRON_LENGTH)] | None = None
    zone: Annotated[str, Meta(max_length=100)] | None = None
    every: Interval | None = None
    data: Object = field(default_factory=partial(Raw, b"{}"))
    priority: Priority = 0
    expires_in: Timeout | None = None
    result_ttl: Seconds | None = None
    catch_up: CatchUp = CatchUp.LATEST
    grace: Seconds = GRACE
    paused: bool | None = None


_decode_job = msgspec.json.Decoder(JobRequest).decode
_decode_schedule = msgspec.json.Decoder(ScheduleRequest).decode
_JSON_TYPE = re.compile(
    rb"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE
)
_UNKNOWN = re.compile(r"object contains unknown field `(.*)`", re.IGNORECASE | re.DOTALL)


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
    try:
        asked = _decode_job(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_fault(error)) from None
    _check_containers(asked)
    return draft(
        asked.name,
        _stages(asked.functions),
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


def schedule_from(
    body: bytes, name: str, now: float, functions: Functions, limits: Limits
) -> tuple[Schedule, bool | None]:
    """The schedule that ``PUT /v1/schedule/{name}`` asks for, and whether it is to be paused.

    Raises `InvalidInput` with every fault.
    """
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send at least {"every": …, "functions": [{"name": …}]}')
    try:
        asked = _decode_schedule(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_fault(error)) from None
    _check_containers(asked)
    made = define(
        name,
        _stages(asked.functions),
        cron=asked.cron,
        zone=asked.zone,
        every=asked.every,
        data=bytes(asked.data),
        priority=asked.priority,
        expires_in=asked.expires_in,
        result_ttl=asked.result_ttl,
        catch_up=asked.catch_up,
        grace=asked.grace,
        now=now,
        known=functions,
        limits=limits,
    )
    return made, asked.paused


def _stages(asked: Stages) -> list[Step | list[Step]]:
    return [_step(entry) if isinstance(entry, FunctionRequest) else [*map(_step, entry)] for entry in asked]


def _step(asked: FunctionRequest) -> Step:
    return Step(asked.name, 0, bytes(asked.args), bytes(asked.kwargs), asked.retry_options, asked.timeout)


def _check_containers(asked: JobRequest | ScheduleRequest) -> None:
    """Refuse arguments that are no array, or no object: their decoder leaves them as they came."""
    faults = [] if bytes(asked.data)[:1] == b"{" else [Fault("expected an object", "/data")]
    for number, entry in enumerate(asked.functions):
        members = [entry] if isinstance(entry, FunctionRequest) else entry
        for i, function in enumerate(members):
            at = f"/functions/{number}" if isinstance(entry, FunctionRequest) else f"/functions/{number}/{i}"
            if bytes(function.args)[:1] != b"[":
                faults.append(Fault("expected an array", f"{at}/args"))
            if bytes(function.kwargs)[:1] != b"{":
                faults.append(Fault("expected an object", f"{at}/kwargs"))
    if faults:
        raise InvalidInput(*faults)


def _fault(error: msgspec.ValidationError) -> Fault:
    """What is wrong with the body; an unknown field is pointed at itself, not at what it is in."""
    fault = fault_of(error, "")
    unknown = _UNKNOWN.fullmatch(fault.detail)
    return fault if unknown is None else fault._replace(pointer=f"{fault.pointer}/{escape(unknown[1])}")


def _in_the_body(fault: Fault) -> Fault:
    """A fault of the job's only step, as one of the body that holds just its arguments."""
    pointer = re.sub(r"^/functions/0(/args|/kwargs)?", "", fault.pointer)
    return fault._replace(pointer=pointer)
