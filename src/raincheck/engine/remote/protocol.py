"""The messages of the HTTP worker protocol (docs/reference/worker-protocol.md), and the ids of attempts."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.core.codec import to_json
from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import Problem, RetryOptions, Seconds
from raincheck.engine.requests import JOB_ID, FunctionName, Timeout
from raincheck.functions.context import Progress
from raincheck.functions.registry import DEFAULT_WAIT
from raincheck.store.base import Held

MAX_ATTEMPTS = 1000
"""Attempts that one call can claim, extend, finish or release."""

MAX_FUNCTIONS = 1000
"""Functions of one worker."""

LEASE = 15.0
"""Seconds of a lease, unless the worker asks for another time."""

EXTENSIONS = 3
"""How often a worker extends its leases within the length of a lease."""

MESSAGE_LIMIT = 2000
"""Characters of the message of a progress that are stored."""

AttemptId = Annotated[str, Meta(min_length=1, max_length=200)]
Schema = dict[str, Any]


class RemoteFunction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function of a worker that registers; only ``name`` is required."""

    name: FunctionName
    doc: Annotated[str, Meta(max_length=20_000)] = ""
    parameters: Schema = field(default_factory=dict)
    positional: Schema = field(default_factory=dict)
    returns: Schema = field(default_factory=dict)
    retry_options: RetryOptions = RetryOptions()
    timeout: Timeout | None = None
    wait: Seconds = DEFAULT_WAIT
    mode: Annotated[str, Meta(max_length=20)] = "remote"
    concurrency: Annotated[int, Meta(ge=1)] | None = None


class Registration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker that registers. ``capacity`` is the number of attempts that it runs at once.

    ``lease`` is the length of its leases in seconds. ``host`` is its host name (default: the address that
    the request comes from), and ``pid`` the id of its process.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    functions: Annotated[tuple[RemoteFunction, ...], Meta(min_length=1, max_length=MAX_FUNCTIONS)]
    capacity: Annotated[int, Meta(ge=1, le=100_000)] = 1
    version: Annotated[str, Meta(max_length=100)] = ""
    lease: Annotated[float, Meta(ge=1, le=3600)] = LEASE
    host: Annotated[str, Meta(max_length=255)] = ""
    pid: Annotated[int, Meta(ge=0, le=2**32)] = 0


class WorkerLimits(Struct, frozen=True, kw_only=True):
    """``body`` is the size of a request to finish attempts, ``result`` that of one result, in bytes.

    ``attempts`` is the number of attempts that one request can name.
    """

    body: int
    result: int
    attempts: int


class Registered(Struct, frozen=True, kw_only=True):
    """The response to a registration. ``token`` is the value of ``Worker-Token`` in all later requests.

    Leases last ``lease`` seconds; extend them at least every ``heartbeat`` seconds.
    """

    id: str
    token: str
    lease: float
    heartbeat: float
    functions: list[str]
    limits: WorkerLimits

    def __repr__(self) -> str:
        return f"Registered({self.id!r})"  # without the token


class ClaimRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Claim up to ``limit`` attempts at ``functions`` (default: all that are registered).

    Of a function with an entry in ``limits``, at most that many. If none is ready, the request waits up to
    ``wait`` seconds for one.
    """

    limit: Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS)] = 1
    wait: Seconds = 0.0
    functions: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_FUNCTIONS)] | None = None
    limits: Annotated[dict[str, Annotated[int, Meta(ge=1)]], Meta(max_length=MAX_FUNCTIONS)] = {}


class ClaimedAttempt(Struct, frozen=True, kw_only=True):
    """An attempt to run. ``id`` names it in later requests; ``token`` is its fencing token.

    ``data`` is the shared data of the job, ``previous`` the result of the stage before. ``attempt`` is its
    number at this step, from 1; ``lost_count`` of those before it were lost. ``timeout`` is in seconds; at
    ``deadline``, the attempt or its job runs out of time.
    """

    id: str
    token: int
    job: str
    name: str
    step: int
    function: str
    args: Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {}})]
    kwargs: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    data: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    previous: Raw
    attempt: int
    lost_count: int = 0
    created_at: datetime
    started_at: datetime
    lease_until: datetime
    timeout: float | None
    deadline: datetime | None


class Claimed(Struct, frozen=True):
    """The attempts of a claim; empty if none came within the wait."""

    attempts: list[ClaimedAttempt]


class LogLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line for the log of the server."""

    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"


class RunningAttempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt whose lease is to be extended, its latest progress and new log lines."""

    id: AttemptId
    progress: Progress | None = None
    log: tuple[LogLine, ...] = ()


class ExtendRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Extend the leases of the attempts that run. ``stopping``: the worker claims no more.

    ``running`` is the number of attempts that run, as the worker counts them.
    """

    attempts: Annotated[tuple[RunningAttempt, ...], Meta(max_length=MAX_ATTEMPTS)] = ()
    state: Literal["active", "stopping"] = "active"
    running: Annotated[int, Meta(ge=0)] | None = None


StopReason = Literal["cancelled", "timeout", "lost"]


class StoppedAttempt(Struct, frozen=True):
    """An attempt that has to stop, and why.

    ``lost``: drop it. ``cancelled`` and ``timeout``: stop it, then finish it.
    """

    id: str
    reason: StopReason


class Extended(Struct, frozen=True, kw_only=True):
    """The leases last ``lease`` seconds from now, but for those of ``stop`` with the reason ``lost``.

    ``claim``: whether the worker may claim.
    """

    lease: float
    stop: list[StoppedAttempt]
    claim: bool


class ReportedError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of a function. ``types`` are the names of its type and of the types that it derives from.

    ``retryable=false``: another attempt would fail in the same way. ``retry_after``: retry after this pause
    in seconds.
    """

    type: Annotated[str, Meta(min_length=1, max_length=200)]
    message: str = ""
    types: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=50)] = ()
    traceback: str = ""
    retryable: bool = True
    retry_after: Seconds | None = None


class FinishedAttempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an attempt ended: a ``result`` and the changed keys of ``data``, an ``error``, or ``stopped``.

    ``progress`` is its last progress, if it was not sent before.
    """

    id: AttemptId
    result: Raw | msgspec.UnsetType = msgspec.UNSET
    data: dict[str, Raw] | None = None
    error: ReportedError | None = None
    stopped: bool = False
    progress: Progress | None = None


class FinishRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts that have ended. Each is checked on its own: a wrong one does not keep out the others."""

    attempts: Annotated[
        list[Annotated[Raw, Meta(extra_json_schema={"$ref": "#/$defs/FinishedAttempt"})]],
        Meta(min_length=1, max_length=MAX_ATTEMPTS),
    ]


FinishOutcome = Literal["done", "retried", "failed", "timed-out", "cancelled", "lost", "refused"]


class Ending(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one attempt. ``lost``: it was not in force any more. ``refused``: see ``problem``."""

    id: str
    outcome: FinishOutcome
    problem: Problem | None = None


class Finished(Struct, frozen=True):
    """What became of each attempt, in the order of the request."""

    attempts: list[Ending]


class NamedAttempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt that has not begun."""

    id: AttemptId


class ReleaseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts that have not begun: they run elsewhere and are not counted."""

    attempts: Annotated[tuple[NamedAttempt, ...], Meta(max_length=MAX_ATTEMPTS)]


class _Id(NamedTuple):
    job: str
    step: int
    token: int


decode_registration = msgspec.json.Decoder(Registration).decode
decode_claim = msgspec.json.Decoder(ClaimRequest).decode
decode_extend = msgspec.json.Decoder(ExtendRequest).decode
decode_finish = msgspec.json.Decoder(FinishRequest).decode
decode_finished = msgspec.json.Decoder(FinishedAttempt).decode
decode_release = msgspec.json.Decoder(ReleaseRequest).decode
_encode_id = msgspec.msgpack.Encoder().encode
_decode_id = msgspec.msgpack.Decoder(_Id).decode


def progress_json(progress: Progress) -> bytes:
    """A progress as it is stored."""
    message = progress.message and progress.message[:MESSAGE_LIMIT]
    return to_json(Progress(progress.done, progress.total, message))


def attempt_id(held: Held) -> str:
    """The id of the attempt of a lease."""
    return base64.urlsafe_b64encode(_encode_id(held)).rstrip(b"=").decode()


def parse_attempt_id(text: str, pointer: str) -> Held:
    """The lease of an attempt. Raises `InvalidInput` for a text that is not an id; ``pointer`` says where."""
    try:
        named = _decode_id(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (ValueError, msgspec.DecodeError):
        named = _Id("", 0, 0)
    if not JOB_ID.fullmatch(named.job):
        detail = f"{text[:50]!r} is not the id of an attempt: use the id that the claim gave"
        raise InvalidInput(Fault(detail, pointer))
    return Held(*named)
