"""The values of raincheck. All are frozen: a change makes a new value. No I/O.

`Job` and its parts are also the stored record, as arrays without field names. **New fields are added only at
the end, with a default**, so that old records stay readable. User values (arguments, data, results) are the
JSON bytes that were received: nothing decodes them on the way, so they are returned unchanged.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr, replace

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.text import seconds_detail, short

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # a type checker has its own; `Step` alone means `Step[Any]`

    R_co = TypeVar("R_co", covariant=True, default=Any)
    ExceptionNames = tuple[str | type[BaseException], ...]
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)
    ExceptionNames = tuple[str, ...]


class State(StrEnum):
    """The states of a job and of its steps."""

    SCHEDULED = "scheduled"
    """Waits for its date."""
    PENDING = "pending"
    """Waits for a worker; a step also waits for the previous stage."""
    DOING = "doing"
    """A worker holds a lease on it. Not stored, except for the run of a group that waits for its jobs."""
    RETRYING = "retrying"
    """An attempt failed; waits for the next one."""
    DONE = "done"
    """Succeeded."""
    FAILED = "failed"
    """Failed; no attempt is left."""
    CANCELLED = "cancelled"
    """Cancelled by request."""

    ended: bool
    """Whether the job or step has ended; only a retry of the job continues it."""

    def __init__(self, value: str) -> None:
        self.ended = value in ("done", "failed", "cancelled")  # read very often: not a property

    __hash__ = str.__hash__  # a State equals its string; quicker than the hash of an Enum

    def shown(self, *, leased: bool) -> State:
        """The state to show for a job with this state at rest: ``doing`` while one of its steps is leased."""
        return State.DOING if leased and not self.ended else self


MAX_SECONDS = 10 * 366 * 86400.0
"""Seconds; the longest pause, and the furthest date from now."""

Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]

OnFailure = Literal["fail", "continue"]
"""What the run of a group does if one of its jobs ends without a result."""


class RetryOptions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a failed step is retried.

    ``retry_limit`` is the total number of attempts. The pause before attempt n + 1 is
    ``delay * backoff ** (n - 1)`` seconds, at most ``max_delay``, minus a random part of at most ``jitter``
    (a fraction of the pause). Exceptions are classes, or their names (``"ValueError"``,
    ``"package.module.Error"``); subclasses match too. Empty ``retry_on`` matches every exception; ``fail_on``
    takes precedence. ``lost_limit`` is how often the step runs again after its worker died; use 0 for
    functions that must not run twice.
    """

    retry_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    delay: Seconds = 1.0
    backoff: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max_delay: Seconds = 3600.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1
    retry_on: ExceptionNames = ()
    fail_on: ExceptionNames = ()
    lost_limit: Annotated[int, Meta(ge=0, le=1_000_000)] = 3

    @classmethod
    def of(cls, value: RetryOptions | int) -> RetryOptions:
        """The options that ``retry=`` means: a number of attempts, or options, their exceptions as names.

        Raises `InvalidInput`.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            value = cls(retry_limit=value)
        if not isinstance(value, cls):
            raise InvalidInput(
                Fault(f"retry must be a number of attempts or RetryOptions(...), got {short(value)}")
            )
        if value.retry_on or value.fail_on:
            value = replace(value, retry_on=_names(value.retry_on), fail_on=_names(value.fail_on))
        return value


def _names(given: Any) -> tuple[str, ...]:
    exceptions = (given,) if isinstance(given, str | type) else tuple(given)
    names = []
    for each in exceptions:
        if isinstance(each, type) and issubclass(each, BaseException):
            has_module = each.__module__ not in ("builtins", "__main__")  # a worker imports the main module
            each = f"{each.__module__}.{each.__qualname__}" if has_module else each.__qualname__
        if not isinstance(each, str):
            raise InvalidInput(
                Fault(f"retry_on and fail_on take exception classes or their names, got {short(each)}")
            )
        names.append(each)
    return tuple(names)


class ErrorDetail(Struct, frozen=True, omit_defaults=True):
    """One entry of a problem's ``errors``: the error, and a JSON Pointer (RFC 6901) to the field."""

    detail: str
    pointer: str = ""


PROBLEM_TYPES = "urn:raincheck:problem:"
"""What the ``type`` of every problem of raincheck begins with (docs/decisions/0020)."""


class FailureType(StrEnum):
    """Why a job failed: the names of the problem types of its ``error``."""

    FUNCTION_FAILED = "function-failed"
    TIMEOUT = "timeout"
    RESULT_TOO_LARGE = "result-too-large"
    RESULTS_TOO_LARGE = "results-too-large"
    WORKER_LOST = "worker-lost"
    MEMBERS_FAILED = "members-failed"
    DEADLINE_PASSED = "deadline-passed"


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A problem document (RFC 9457): the response to a bad request, and the ``error`` of a failed job.

    ``type`` is a URI. A bare name, such as ``timeout``, becomes the URI of that type of raincheck: also in a
    record of an older version.
    """

    type: str = "about:blank"
    title: str
    status: int = 500
    detail: str = ""
    instance: str | None = None
    errors: tuple[ErrorDetail, ...] = ()
    function: str | None = None
    exception: str | None = None
    attempt: int | None = None
    retryable: bool | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if ":" not in self.type and "/" not in self.type:
            force_setattr(self, "type", PROBLEM_TYPES + self.type)

    @property
    def name(self) -> str:
        """The name of the type, such as ``timeout``; the whole type if it is not one of raincheck."""
        return self.type.removeprefix(PROBLEM_TYPES)


class Member(Struct, frozen=True, array_like=True):
    """One job of a group, before it is submitted. ``data`` is a JSON object."""

    name: str
    steps: tuple[Step, ...]
    data: bytes = b"{}"
    priority: int = 0


class Gather(Struct, frozen=True, array_like=True):
    """The jobs that the first step of a group's run waits for; their results become its result.

    ``size`` is their number. ``members`` are the jobs to create; empty once they exist. ``failed`` are the
    positions of the jobs that ended without a result. With ``on_failure="fail"``, one such job fails the run.
    """

    size: int
    on_failure: OnFailure = "fail"
    members: tuple[Member, ...] = ()
    failed: tuple[int, ...] = ()


class Step(Struct, Generic[R_co], frozen=True, array_like=True):
    """One entry of a job's ``functions``; steps of the same ``stage`` run in parallel.

    To a type checker, ``Step[int]`` calls a function that returns an int.

    ``args`` (a JSON array), ``kwargs`` (a JSON object), ``result`` and ``progress`` are JSON bytes. A large
    result is stored beside the record (docs/decisions/0015): then ``result`` is None and ``result_size`` is
    its length. ``due`` is when its queue entry becomes ready (seconds since the epoch). A step with
    ``gather`` has no queue entry: it is done when the jobs that it waits for have ended.
    """

    function: str
    stage: int
    args: bytes = b"[]"
    kwargs: bytes = b"{}"
    retry: RetryOptions | None = None
    timeout: float | None = None
    state: State = State.PENDING
    due: float = 0.0
    retry_count: int = 0
    lost_count: int = 0
    result: bytes | None = None
    error: Problem | None = None
    started_at: float | None = None
    finished_at: float | None = None
    worker: str | None = None
    progress: bytes | None = None
    gather: Gather | None = None
    result_size: int | None = None

    def options(self, *, retry: RetryOptions | int | None = None, timeout: float | None = None) -> Step[R_co]:
        """This step with its own retry options or timeout (seconds per attempt) instead of the function's.

        ``retry`` can be the number of attempts. Raises `InvalidInput`.
        """
        if timeout is not None and (detail := seconds_detail(timeout)):
            raise InvalidInput(Fault(f"timeout {detail}"))
        return replace(
            self,
            retry=self.retry if retry is None else RetryOptions.of(retry),
            timeout=self.timeout if timeout is None else timeout,
        )


class Event(Struct, frozen=True, array_like=True):
    """One event of a job; events are numbered from 1."""

    number: int
    at: float
    kind: str
    step: int | None = None


class Job(Struct, frozen=True, array_like=True):
    """One submission, as it is stored. ``rev`` is 1 at first, and 1 more after each change.

    ``state`` is the state at rest: while a step is leased, the job is ``doing``. ``data`` is a JSON object.
    Times are seconds since the epoch by the store's clock. ``run`` is 1, plus 1 for each retry of the job.
    ``group`` is the group of a run or of one of its jobs; ``run_of`` is the id of the run, for its jobs.
    ``schedule`` is the schedule that submitted the job.
    """

    id: str
    name: str
    steps: tuple[Step, ...]
    rev: int = 1
    state: State = State.PENDING
    data: bytes = b"{}"
    priority: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    scheduled_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    result_ttl: float = 0.0
    cancel_requested_at: float | None = None
    run: int = 1
    error: Problem | None = None
    events: tuple[Event, ...] = ()
    group: str | None = None
    run_of: str | None = None
    schedule: str | None = None


class QueueEntry(Struct, frozen=True, array_like=True):
    """The entry of a step in the queue of its function; ready at ``due``."""

    step: int
    function: str
    priority: int
    due: float


class Lease(Struct, frozen=True):
    """The right of a worker to run one step until ``until``. ``token`` is the fence: it is never reused."""

    step: int
    token: int
    worker: str
    since: float
    until: float
    progress: bytes | None = None


class Release(Struct, frozen=True):
    """A lease that must be in force for a change; with ``expired`` it must also have expired."""

    step: int
    token: int
    expired: bool = False


class Key(Struct, frozen=True):
    """An idempotency key, the fingerprint of its request, and the time until which the store remembers it."""

    name: str
    fingerprint: bytes
    until: float


class Entry(Struct, frozen=True):
    """One entry of the journal of a job: what happened to it, as opposed to what is true of it now.

    The store numbers the entries of a job from 1 when it writes them. ``kind`` says what ``value`` is;
    ``step`` is None if the entry is about the whole job. Of each kind and step, the store keeps the first
    entry and the latest ``keep``; missing numbers show what was removed. ``keep`` is not stored.
    """

    kind: str
    step: int | None
    value: bytes
    keep: int = 0
    number: int = 0


class Change(Struct, frozen=True, kw_only=True):
    """Everything that one transition writes, in one atomic step.

    Guards: the stored ``rev`` is ``job.rev - 1`` (0: the job does not exist), all entries in ``take`` are in
    the queue, and all leases in ``release`` and ``hold`` are in force. If one fails, nothing is written.
    Writes: the record ``job``; entries in ``take`` leave the queue and those in ``put`` enter it; leases in
    ``release`` end; steps in ``drop`` leave the queue, or lose their lease. ``check_at`` is when maintenance
    checks the job: a due time or a deadline, or, for an ended job, when to remove it. ``results`` are large
    results of steps (JSON), and ``journal`` are new entries of its journal, in order: both are stored beside
    the record until the job is removed.

    ``not_applied`` are the positions of the triggers that did not apply after the previous ones. The change
    contains nothing of them, and stores do not read it.
    """

    job: Job
    take: tuple[QueueEntry, ...] = ()
    release: tuple[Release, ...] = ()
    hold: tuple[Release, ...] = ()
    drop: tuple[QueueEntry, ...] = ()
    put: tuple[QueueEntry, ...] = ()
    check_at: float | None = None
    key: Key | None = None
    results: tuple[tuple[int, bytes], ...] = ()
    journal: tuple[Entry, ...] = ()
    not_applied: tuple[int, ...] = ()


class Stored(Struct, frozen=True):
    """A stored job, with the leases in force on its steps."""

    job: Job
    leases: tuple[Lease, ...] = ()

    @property
    def state(self) -> State:
        """The state to show."""
        return self.job.state.shown(leased=bool(self.leases))


class Claim(Struct, frozen=True):
    """A claimed step: the job, and the lease on the step."""

    job: Job
    lease: Lease

    @property
    def step(self) -> Step:
        """The step that the lease is for."""
        return self.job.steps[self.lease.step]


class Attempt(Struct, frozen=True):
    """One attempt at a step: its lease (``token``), worker, start and last progress."""

    step: int
    token: int
    worker: str
    started_at: float
    progress: bytes | None = None


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    """It returned a result."""
    RETRIED = "retried"
    """It raised an exception; the step is retried."""
    FAILED = "failed"
    """It raised an exception, and the step failed."""
    TIMED_OUT = "timed-out"
    """It took longer than its timeout; its error says whether the step is retried."""
    LOST = "lost"
    """Its worker died or lost its connection; its error says whether the step runs again."""
    CANCELLED = "cancelled"
    """It was stopped because the job was cancelled."""
    GIVEN_UP = "given-up"
    """The deadline of the job passed while it ran."""


class EndedAttempt(Struct, frozen=True, array_like=True):
    """One attempt that has ended. **New fields are added only at the end, with a default.**

    ``number`` is that of the attempt at its step, from 1, within ``run`` of the job: as in `Context.attempt`
    and in the error. ``traceback`` is text; empty if there is none.
    """

    run: int
    number: int
    worker: str
    started_at: float
    finished_at: float
    outcome: AttemptOutcome
    error: Problem | None = None
    traceback: str = ""


class CatchUp(StrEnum):
    """Which missed firings of a schedule are made up for, after no process ran or all were late."""

    LATEST = "latest"
    """The latest one, unless a later one is on time."""
    ALL = "all"
    """All of them; if there are very many, the latest ones."""
    NONE = "none"
    """None."""


class Schedule(Struct, frozen=True, array_like=True):
    """Submits a job repeatedly: by a cron expression in a time zone, or at an interval of ``every`` seconds.

    Each firing submits ``job`` with a new id and new dates. ``id`` differs between schedules that had the
    same name; ``rev`` is 1 at first, and 1 more after each change. ``next`` is the next firing to handle
    (None: there is none); intervals start at ``anchor``. A firing at most ``grace`` seconds late is on time.
    ``declared`` is the fingerprint of its declaration in code or in a file. With ``group``, each firing
    triggers that group, and ``job`` contains only the data. A schedule with ``removed`` is written to remove
    the stored one; it is not stored.
    """

    name: str
    job: Job
    id: str = ""
    rev: int = 1
    cron: str | None = None
    zone: str = "UTC"
    every: float | None = None
    anchor: float = 0.0
    catch_up: CatchUp = CatchUp.LATEST
    grace: float = 60.0
    expires_in: float | None = None
    paused: bool = False
    next: float | None = None
    last: float | None = None
    last_job: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    source: str = "api"
    declared: bytes = b""
    group: str | None = None
    removed: bool = False

    @property
    def due(self) -> float | None:
        """When the schedule has to be handled next; None: never, or it is paused."""
        return None if self.paused else self.next


class FunctionInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function that a worker offers.

    ``parameters`` (by name), ``positional`` and ``returns`` are JSON Schemas (2020-12). A worker process runs
    at most ``concurrency`` attempts of it at once (None: as many as it has slots).
    """

    name: str
    doc: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    positional: dict[str, Any] = msgspec.field(default_factory=dict)
    returns: dict[str, Any] = msgspec.field(default_factory=dict)
    retry: RetryOptions = RetryOptions()
    timeout: float | None = None
    wait: float = 5.0
    mode: str = "async"
    concurrency: int | None = None


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """A registered worker. ``seen_at`` is its last heartbeat; its registration expires at ``seen_until``.

    ``running`` is the number of its leases, ``abandoned`` the number of its threads that still run an
    abandoned attempt. It reports ``state`` itself: ``active``, ``stopping`` or, when it ends, ``stopped``.

    A worker that connects over HTTP also has a ``name``, the digest of its token, and the length of its
    leases in seconds. **New fields are added with a default**, so that old records stay readable.
    """

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    functions: tuple[FunctionInfo, ...]
    started_at: float
    seen_at: float = 0.0
    seen_until: float = 0.0
    running: int = 0
    state: str = "active"
    abandoned: int = 0
    name: str = ""
    token_digest: bytes = b""
    lease: float = 0.0

    def at(self, now: float) -> WorkerInfo:
        """The worker as shown at a time: ``unhealthy`` once its registration has expired."""
        return self if self.seen_until > now else replace(self, state="unhealthy")
