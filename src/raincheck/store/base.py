"""The store contract: what every store does, and nothing about how.

A store keeps jobs, the places of their ready steps in the queues of their functions, and the leases
that workers hold on steps. It is mechanism: which change follows from which event is decided in
`raincheck.lifecycle` alone. Every verb is atomic and takes a batch; concurrent calls share a
transaction or a round trip where the store can. All times are seconds since the epoch by the
store's clock, `Store.now`.

Any verb may raise `StoreUnavailable` (nothing is known to be lost; the same call may succeed
later) or `StoreFull`. All are safe to call from several event loops and threads at once; only
`extend` and `now` are plain functions, for a thread of its own keeps the leases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from msgspec import Struct

from raincheck.model import Change, Claim, Job, Schedule, State, Stored, WorkerInfo


class Conflict(Struct, frozen=True):
    """The change did not apply: the job, a place or a lease is not as it says. Read and decide anew."""


class Duplicate(Struct, frozen=True):
    """The change's idempotency key is taken: by this job, for a request with this fingerprint."""

    job_id: str
    fingerprint: bytes


Outcome = Conflict | Duplicate | None
"""What became of a change; None: it was written, and is durable."""


class Missing(Struct, frozen=True):
    """There is no such job; ``gone`` if it is remembered to have been there."""

    gone: bool = False


class Held(NamedTuple):
    """A lease as its worker knows it."""

    job_id: str
    step: int
    token: int


class Filter(Struct, frozen=True, kw_only=True):
    """Which jobs to list: those that match all that is given."""

    state: State | None = None
    name: str | None = None
    function: str | None = None
    group: str | None = None


class Page(Struct, frozen=True):
    """Some jobs, newest first. ``cursor`` leads to the next page; None: there is none.

    A page may hold fewer jobs than asked for, even none, and still have a cursor: a store looks at
    a bounded number of jobs a call, so that a rare match among very many costs several short calls.
    """

    jobs: tuple[Stored, ...]
    cursor: str | None = None


class Counts(Struct, frozen=True):
    """Jobs by state at rest, ready and future places by function, and leases in force.

    ``doing`` are the jobs with at least one lease, each once, by their state at rest.
    """

    states: dict[State, int]
    queued: dict[str, int]
    leased: int
    doing: dict[State, int] = {}

    @property
    def shown(self) -> dict[State, int]:
        """Jobs by the state that they are shown in."""
        shown = {state: self.states.get(state, 0) - self.doing.get(state, 0) for state in State}
        return shown | {State.DOING: shown[State.DOING] + sum(self.doing.values())}


class Watch(Protocol):
    """Sees the changes of one job, on the event loop it was made on, until it is left (``with``)."""

    def __enter__(self) -> Self:
        """Nothing but itself."""

    def __exit__(self, *exc_info: object) -> None:
        """See no more."""

    async def changed(self, seconds: float) -> bool:
        """Wait for a change since the last call; False: ``seconds`` passed without one."""

    @property
    def ended(self) -> Stored | None:
        """The job, if this process has just seen it end; None: read it."""


Listener = Callable[[Mapping[str, Job | None]], None]
"""Told of jobs by id, as they were just written; None: look yourself. No ids: look at all."""


class Store(Protocol):
    """Where jobs live."""

    def now(self) -> float:
        """The store's time, which decides."""

    async def open(self) -> None:
        """Connect, and create or migrate what is there.

        Raises `StoreUnusable` when it belongs to something else or to a newer version.
        """

    async def close(self) -> None:
        """Finish what was begun, and let go. Waiting calls end with `StoreUnavailable`, as do later ones.

        It can be opened again.
        """

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write each change entirely or not at all, each on its own; an outcome for each, in order.

        Of several changes of one job in a batch, one applies. A new job needs an id that is neither
        in use nor remembered as gone. A lease is in force, though it may have run out, until a change
        or `release` ends it: a result that comes late, but before anybody else took the step, counts.
        When this returns, what was written survives a crash of any process, and the power going off.
        """

    async def claim(
        self,
        worker: str,
        functions: Sequence[str],
        limit: int,
        lease: float,
        wait: float = 0.0,
    ) -> list[Claim]:
        """Move up to ``limit`` ready steps of ``functions`` from the queue into leases of ``worker``.

        Within a function: higher priority first, then what was due first. Between functions: each
        gets a fair share. Leases last ``lease`` seconds; each has a token that was never used before.
        With nothing ready, waits up to ``wait`` seconds for something. The cost does not
        depend on how long queues are. A call that is cancelled gives back what it got.
        """

    def extend(self, held: Sequence[Held], lease: float) -> list[int | None]:
        """Let leases run ``lease`` seconds from now. The job's ``rev`` for each; None: it was lost.

        Blocks, for at most a few seconds: it is called from a thread, never from an event loop.
        """

    async def release(self, held: Sequence[Held]) -> None:
        """Give steps back, unrun: each returns to the place in the queue that it was claimed from."""

    async def report(self, held: Held, progress: bytes) -> bool:
        """Note how far an attempt has come (JSON). False: its lease is lost, nothing was noted."""

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        """The jobs with these ids, in their order."""

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        """The job once its ``rev`` is over ``rev``, or it is missing; None: ``wait`` seconds passed."""

    def watch(self, job_id: str) -> Watch:
        """A watch on a job: from now until it is left, no change of it is missed.

        Made before a job is submitted, it makes reading the job again needless.
        """

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` whenever jobs changed, in this process or, soon after, in another.

        It is called from any thread and must return at once. Returns how to stop listening.
        """

    async def page(self, which: Filter, limit: int, cursor: str | None = None) -> Page:
        """Jobs, newest first. Raises `InvalidInput` for a cursor that no page gave."""

    async def lost(self, limit: int) -> list[Claim]:
        """Leases that have run out, with their jobs."""

    async def alarmed(self, limit: int) -> list[Stored]:
        """Unfinished jobs whose alarm has rung: a due time or a deadline has passed."""

    async def prune(self, limit: int, remember: float) -> int:
        """Remove up to ``limit`` ended jobs whose alarm has rung; how many it removed.

        Their ids are remembered for ``remember`` seconds, and `find` calls them gone; older
        memories, idempotency keys and workers that have run out go too.
        """

    async def forget(self, job_id: str, rev: int, remember: float) -> bool:
        """Remove an ended job at once. False: it is not at ``rev``, or not ended."""

    async def register(self, worker: WorkerInfo, ttl: float) -> None:
        """Note that a worker is there, for ``ttl`` seconds unless it says so again."""

    async def unregister(self, worker_id: str) -> None:
        """Note that a worker has left."""

    async def workers(self) -> list[WorkerInfo]:
        """The workers known, also those whose ``ttl`` ran out lately (state ``unhealthy``)."""

    async def counts(self) -> Counts:
        """How many of everything; the cost depends on how many steps are being run, not on how many jobs."""

    async def put_schedule(self, schedule: Schedule) -> bool:
        """Write a schedule in place of the one before it; it is due at its ``due``.

        False: what is stored under its name has not its ``id``, or is not at the ``rev`` before; with
        ``rev`` 1: there is one of its name.
        """

    async def drop_schedule(self, name: str) -> bool:
        """Remove a schedule. False: there is none of this name."""

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        """The schedule of this name, if there is one; without a name all, sorted by theirs."""

    async def due_schedules(self, limit: int) -> list[Schedule]:
        """Schedules whose ``due`` has come, the longest overdue first."""
