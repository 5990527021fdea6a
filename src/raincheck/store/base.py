"""The store contract: what every store does, and nothing about how.

A store keeps jobs, the entries of their ready steps in the queues of their functions, and the leases that
workers hold on steps. It is mechanism: `raincheck.core.lifecycle` alone decides which change follows from
which event. Every verb is atomic and takes a batch; concurrent calls share a transaction or a round trip
where the store can. All times are seconds since the epoch by the store's clock, `Store.now`.

Any verb may raise `StoreUnavailable` (nothing is known to be lost; the same call may succeed later) or
`StoreFull`. All verbs are safe to call from several event loops and threads at once. `heartbeat` and `now`
are plain functions; `heartbeat` blocks, and is called from a thread of its own.

What every store would do alike is written once, above this contract: waiting for a change of a job
(`raincheck.store.watches`), and which jobs a listing shows (`raincheck.store.listing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from raincheck.core.model import Change, Claim, Job, Schedule, State, Stored, WorkerInfo


class Conflict(Struct, frozen=True):
    """The change did not apply: the job, an entry or a lease differs. Read it and decide again."""


class Duplicate(Struct, frozen=True):
    """The change's idempotency key is taken: by this job, for a request with this fingerprint."""

    job_id: str
    fingerprint: bytes


Outcome = Conflict | Duplicate | None
"""The outcome of a change; None: it was written, and is durable."""


class Missing(Struct, frozen=True):
    """There is no such job; ``gone``: there was one, and it was removed."""

    gone: bool = False


class Held(NamedTuple):
    """A lease as its worker knows it."""

    job_id: str
    step: int
    token: int


class Ended(NamedTuple):
    """A job that has ended, at one of its revisions."""

    job_id: str
    rev: int


class Filter(Struct, frozen=True, kw_only=True):
    """Which jobs to list: those that match all that is given."""

    state: State | None = None
    name: str | None = None
    function: str | None = None
    group: str | None = None


class Candidates(Struct, frozen=True):
    """Jobs that may match a filter, newest first, and the position of each in the listing.

    ``end`` is the position where the search ended; None: it reached the oldest job.
    """

    jobs: tuple[Stored, ...]
    positions: tuple[str, ...]
    end: str | None = None


class Due(Struct, frozen=True):
    """What maintenance has to do now, each list with the longest overdue first.

    ``leases`` have run out. ``jobs`` have not ended, and their alarm has come: a due time or a deadline has
    passed. ``ended`` jobs were kept long enough. ``schedules`` have a firing that has come.
    """

    leases: list[Claim]
    jobs: list[Stored]
    ended: list[Ended]
    schedules: list[Schedule]


class Counts(Struct, frozen=True):
    """Jobs by state at rest, ready and future queue entries by function, and leases in force.

    ``doing`` are the jobs with at least one lease, each once, by their state at rest.
    """

    states: dict[State, int]
    queued: dict[str, int]
    leased: int
    doing: dict[State, int] = {}

    @property
    def shown(self) -> dict[State, int]:
        """Jobs by the state that they are shown in."""
        shown = {state: self.states.get(state, 0) for state in State}
        for state, jobs in self.doing.items():
            shown[state] -= jobs
            shown[state.shown(leased=True)] += jobs
        return shown


Listener = Callable[[Mapping[str, Job | None]], None]
"""Called with jobs by id, as they were just written; None: read the job. No ids: any job may have changed."""


class Store(Protocol):
    """Where jobs are kept."""

    kind: str
    """What kind of store it is; cursors of one kind are refused by the others."""

    def now(self) -> float:
        """The store's time, which decides."""

    async def open(self) -> None:
        """Connect, and create or migrate the tables or keys.

        Raises `StoreUnusable` when they belong to another program or to a newer version.
        """

    async def close(self) -> None:
        """Finish calls that were begun, and disconnect. Waiting calls end with `StoreUnavailable`, as do
        later ones.

        The store can be opened again.
        """

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write each change entirely or not at all, each on its own; an outcome for each, in order.

        Of several changes of one job in a batch, one applies. A new job needs an id that is neither in use
        nor remembered as gone. A lease is in force, though it may have run out, until a change or `release`
        ends it: a result that comes late, but before anybody else took the step, counts. The change's results
        are written in the same step, and not at all with a conflict. When this returns, what was written
        survives a crash of any process and a power cut.
        """

    async def claim(
        self,
        worker: str,
        functions: Sequence[str],
        limit: int,
        lease: float,
        wait: float = 0.0,
    ) -> list[Claim]:
        """Move up to ``limit`` ready steps of ``functions`` from the queue into leases of ``worker``, in one
        step.

        Within a function: higher priority first, then what was due first. Between functions: the limit is
        shared out in equal parts (rounded up), the function that was served longest ago first; what one
        function leaves of its part is shared out again among those that took all of theirs. Leases last
        ``lease`` seconds; each has a token that was never used before. With nothing ready, waits up to
        ``wait`` seconds for something. The cost does not depend on how long queues are. A call that is
        cancelled gives back what it got.
        """

    def heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        """Register a worker for ``lease`` seconds from now, and let its leases run as long.

        A worker whose ``state`` is "stopped" is removed from the register. The answer is the ``rev`` of each
        lease's job; None: the lease was lost. The register and each lease are written atomically, each on its
        own. Blocks for at most a few seconds: call it from a thread, never on an event loop.
        """

    async def release(self, held: Sequence[Held]) -> None:
        """Give steps back, unrun: each returns, atomically, to the queue entry that it was claimed from."""

    async def report(self, held: Held, progress: bytes) -> bool:
        """Store the progress of an attempt (JSON). False: its lease is lost, and nothing was stored."""

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        """The jobs with these ids, in their order; each as it is at one moment, with its leases."""

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Large results (JSON) of steps, each by the id of its job and its number; None: it is not there.

        `commit` writes each of them once; they are kept until their job is removed. No other verb reads them.
        """

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` whenever jobs changed, in this process or, soon after, in another.

        It is called from any thread and must return at once. Returns a function that stops it.
        """

    async def page(self, which: Filter, limit: int, after: str | None = None) -> Candidates:
        """Up to ``limit`` jobs that may match, newest first, from the one after a position on.

        The store looks at a bounded number of jobs a call, so that a rare match among very many costs several
        short calls. Raises `ValueError` for a position that it never gave.
        """

    async def due(self, limit: int) -> Due:
        """What maintenance has to do: up to ``limit`` entries of each kind. Nothing is changed."""

    async def remove(self, jobs: Sequence[Ended], remember: float) -> list[bool]:
        """Remove ended jobs; for each, in order, whether it was removed.

        A job that is not at this revision any more, or has not ended, stays. Each job is removed whole, in
        one step. Their ids are remembered for ``remember`` seconds, and `find` calls them gone. Also removes
        a bounded number of those memories, idempotency keys and workers whose time has run out.
        """

    async def workers(self) -> list[WorkerInfo]:
        """The workers known, sorted by id, also those that fell silent a while ago.

        ``running`` is the number of leases that each of them holds now.
        """

    async def counts(self) -> Counts:
        """How many of everything; the cost depends on how many steps are being run, not on how many jobs."""

    async def put_schedule(self, schedule: Schedule) -> bool:
        """Write a schedule in place of the one before it; one that is ``removed`` leaves nothing there.

        False, and nothing is changed, unless what is stored under its name has its ``id`` and the ``rev``
        before; with ``rev`` 1: unless there is none of its name.
        """

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        """The schedule of this name, if there is one; without a name all, sorted by theirs."""
