"""The values raincheck is made of. All frozen; a change makes a new value. No I/O here.

`Job` and what hangs on it is also the stored record: array-like, so a field costs no name.
**Fields are only ever added at the end, with a default**, so that old records stay readable.
User values (arguments, data, results) are kept as the JSON bytes they came in: they are never
decoded on the way, so they come back as they were given.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace


class State(StrEnum):
    """The states of a job and of its steps."""

    SCHEDULED = "scheduled"
    """Waits for its date."""
    PENDING = "pending"
    """Waits for a worker; a step also: for the steps before it."""
    DOING = "doing"
    """A worker holds a lease on it: never stored, a live lease is what makes it so. The run of a group
    is stored so, while it waits for the jobs of its group."""
    RETRYING = "retrying"
    """Failed, and waits for its next attempt."""
    DONE = "done"
    """Ended well."""
    FAILED = "failed"
    """Ended badly."""
    CANCELLED = "cancelled"
    """Ended by request."""

    ended: bool
    """Whether nothing happens any more, unless somebody retries the job."""

    def __init__(self, value: str) -> None:
        self.ended = value in ("done", "failed", "cancelled")  # asked very often: no property

    __hash__ = str.__hash__  # equal to the string, so its hash is too; and quicker than that of an Enum

    def shown(self, *, leased: bool) -> State:
        """The state to show for a job at rest in this one: ``doing`` while any step of it is leased."""
        return State.DOING if leased and not self.ended else self


MAX_SECONDS = 10 * 366 * 86400.0
"""Seconds; no pause and no date lies further off."""

Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]

OnFailure = Literal["fail", "continue"]
"""What the run of a group does when a job of it ends without a result."""


class RetryOptions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a step is tried again.

    ``retry_limit`` counts attempts in all, the first included. The pause before attempt n + 1 is
    ``delay * backoff ** (n - 1)`` seconds, at most ``max_delay``, less a random part of up to
    ``jitter`` (a share of it, so 0.5 means: between half of it and all of it). Exceptions are
    named by class (``ValueError``, ``package.module.Error``); subclasses count. ``retry_on``
    empty means every exception; ``fail_on`` goes before it. ``lost_limit`` is how often the step
    is run again after a worker died on it: 0 is for functions that must never run twice.
    """

    retry_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    delay: Seconds = 1.0
    backoff: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    max_delay: Seconds = 3600.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1
    retry_on: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    lost_limit: Annotated[int, Meta(ge=0, le=1_000_000)] = 3


class ErrorDetail(Struct, frozen=True, omit_defaults=True):
    """One entry of a problem's ``errors``: what is wrong, and a JSON Pointer (RFC 6901) to it."""

    detail: str
    pointer: str = ""


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A problem document (RFC 9457): the answer to a bad request, and a failed job's ``error``."""

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


class Member(Struct, frozen=True, array_like=True):
    """One job of a group, as it will be submitted. ``data`` is a JSON object."""

    name: str
    steps: tuple[Step, ...]
    data: bytes = b"{}"
    priority: int = 0


class Gather(Struct, frozen=True, array_like=True):
    """What the first step of a group's run waits for: ``size`` jobs, whose results are its own.

    ``members`` are those still to be created, all or none. ``failed`` are the positions of those
    that ended without a result. With ``on_failure`` "fail" one of them fails the run.
    """

    size: int
    on_failure: OnFailure = "fail"
    members: tuple[Member, ...] = ()
    failed: tuple[int, ...] = ()


class Step(Struct, frozen=True, array_like=True):
    """One entry of a job's ``functions``; steps of equal ``stage`` run at the same time.

    ``args`` (a JSON array), ``kwargs`` (a JSON object), ``result`` and ``progress`` are JSON bytes. A large
    result is kept beside the record (docs/decisions/0015): then ``result`` is None, ``result_size`` length.
    ``due`` is when its place in the queue becomes ready (seconds since the epoch). A step with ``gather`` has
    no place in any queue: it is done when the jobs that it waits for have ended.
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

    def options(self, *, retry: RetryOptions | None = None, timeout: float | None = None) -> Step:
        """This step with retry options or a timeout (seconds an attempt) other than the function's."""
        return replace(self, retry=retry or self.retry, timeout=self.timeout if timeout is None else timeout)


class Event(Struct, frozen=True, array_like=True):
    """One numbered change in a job's life."""

    number: int
    at: float
    kind: str
    step: int | None = None


class Job(Struct, frozen=True, array_like=True):
    """One submission, as it is stored. ``rev`` counts its changes, from 1.

    ``state`` is what it is at rest; that it is being done shows in its leases. ``data`` is a
    JSON object. Times are seconds since the epoch by the store's clock. The run of a group and its
    members have ``group``, its name; the members have ``run_of``, the id of the run. ``schedule`` names
    the schedule that made it.
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
    """A step's place in the queue of its function, ready from ``due`` on."""

    step: int
    function: str
    priority: int
    due: float


class Lease(Struct, frozen=True):
    """A worker's right to run one step until ``until``. ``token`` is the fence: never reused."""

    step: int
    token: int
    worker: str
    since: float
    until: float
    progress: bytes | None = None


class Release(Struct, frozen=True):
    """A lease that a change ends. With ``expired`` only if it has run out by the store's clock."""

    step: int
    token: int
    expired: bool = False


class Key(Struct, frozen=True):
    """An idempotency key, the fingerprint of its request, and how long it is remembered."""

    name: str
    fingerprint: bytes
    until: float


class Change(Struct, frozen=True, kw_only=True):
    """All that one transition writes, in one atomic step, or not at all.

    It applies only if the stored ``rev`` is one below ``job.rev`` (0: no such job yet), every
    place in ``take`` is in the queue, and every lease in ``release`` and ``hold`` is in force; those
    in ``release`` end. Places in ``drop`` go from wherever they are, the queue or a lease. ``alarm``
    is when upkeep should look at the job: at a due time or deadline, or, once it has ended, to
    prune it. ``results`` are large results of steps (JSON), kept beside the record until the job is removed.
    ``not_applied`` are the positions of the triggers that were void after those before them:
    nothing of them is in the change, and no store reads it.
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
    not_applied: tuple[int, ...] = ()


class Stored(Struct, frozen=True):
    """A job as the store has it, with the leases in force on its steps."""

    job: Job
    leases: tuple[Lease, ...] = ()

    @property
    def state(self) -> State:
        """The state to show."""
        return self.job.state.shown(leased=bool(self.leases))


class Claim(Struct, frozen=True):
    """What a worker gets: a job, and the lease on the step that it may now run."""

    job: Job
    lease: Lease

    @property
    def step(self) -> Step:
        """The step that the lease is for."""
        return self.job.steps[self.lease.step]


class Attempt(Struct, frozen=True):
    """One try at running one step, as it ended: who ran it, from when, how far it came."""

    step: int
    token: int
    worker: str
    started_at: float
    progress: bytes | None = None


class CatchUp(StrEnum):
    """What becomes of the firings of a schedule that were missed, because nothing ran or it was held up."""

    LATEST = "latest"
    """The newest of them fires, unless a later one is on time."""
    ALL = "all"
    """Each of them fires; of very many the newest."""
    NONE = "none"
    """None of them fires."""


class Schedule(Struct, frozen=True, array_like=True):
    """What submits a job again and again: by a cron expression in a zone, or every so many seconds.

    ``job`` is what each firing submits, but for its id and dates. ``id`` tells it from others that had
    its name before, ``rev`` counts its changes, from 1. ``next`` is the first firing that was not dealt
    with yet (None: there is none), ``anchor`` what intervals are counted from. A firing at most ``grace``
    seconds late is on time. ``declared`` is the fingerprint of its declaration in code or a file. With
    ``group`` each firing triggers that group, and ``job`` has no more than the data for it. One that is
    ``removed`` is written to remove it, and never kept.
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
        """When it is to be looked at; None: not as it is."""
        return None if self.paused else self.next


class FunctionInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker tells of a function it offers.

    ``parameters`` (by name), ``positional`` and ``returns`` are JSON Schemas (2020-12).
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


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """A worker as it registered itself, and when it was last seen (``seen_until``: its lease).

    ``running`` is how many leases it holds. ``state`` is what it said of itself: ``active``, ``stopping``, or
    at its end ``stopped``.
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

    def at(self, now: float) -> WorkerInfo:
        """The worker as it is shown at a time: ``unhealthy`` once its lease has run out."""
        return self if self.seen_until > now else replace(self, state="unhealthy")
