"""The store contract: what every store does.

A store keeps jobs, the queue entries of their steps, and the leases that workers hold on steps. It is
mechanism: `raincheck.core.lifecycle` alone decides which change follows from which event. Every verb is
atomic and takes a batch; concurrent calls share a transaction or a round trip where the store can. All times
are seconds since the epoch by the store's clock, `Store.now`.

Any verb may raise `StoreUnavailable` (a write may have been carried out or not; the same call may succeed
later) or `StoreFull`. All verbs are safe to call from several event loops and threads at once. `heartbeat`
and `now` are plain functions; `heartbeat` blocks, and is called from a thread of its own.

What is the same for all stores is written once, above this contract: waiting for a change of a job
(`raincheck.store.watches`), and the filter of listings (`raincheck.store.listing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from msgspec import Struct

from raincheck.core.model import Change, Claim, Entry, Job, Schedule, State, Stored, WorkerInfo


class Conflict(Struct, frozen=True):
    """The change was not written: the job, an entry or a lease differs. Read the job and decide again."""


class Duplicate(Struct, frozen=True):
    """The idempotency key of the change belongs to this job and to a request with this fingerprint."""

    job_id: str
    fingerprint: bytes


Outcome = Conflict | Duplicate | None
"""The outcome of a change; None: it was written, and is durable."""


class Missing(Struct, frozen=True):
    """The job does not exist; ``gone``: it existed and was removed."""

    gone: bool = False


class Held(NamedTuple):
    """A lease, as its worker names it."""

    job_id: str
    step: int
    token: int


class Ended(NamedTuple):
    """A job that has ended, at one of its revisions."""

    job_id: str
    rev: int


class Filter(Struct, frozen=True, kw_only=True):
    """The filter of a listing: jobs that match all given fields.

    The state is one of ``states``, the time of creation at least ``since`` and before ``until``, and
    ``error`` the name of the type of the job's error, or of its exception. ``counted_from`` is the time that
    the durations of the request were counted from; stores do not read it. Newest first, or oldest first.
    """

    states: tuple[State, ...] = ()
    name: str | None = None
    function: str | None = None
    group: str | None = None
    schedule: str | None = None
    error: str | None = None
    since: float | None = None
    until: float | None = None
    oldest_first: bool = False
    counted_from: float = 0.0


class Candidates(Struct, frozen=True):
    """Jobs that may match a filter, in its order, and the position of each in the listing.

    ``end`` is the position where the search ended; None: it reached the last job.
    """

    jobs: tuple[Stored, ...]
    positions: tuple[str, ...]
    end: str | None = None


class Due(Struct, frozen=True):
    """The work of maintenance that is due; each list starts with the longest overdue.

    ``leases`` have expired. ``jobs`` have not ended, and their ``check_at`` has passed. ``ended`` jobs are to
    be removed. ``schedules`` have a firing that is due.
    """

    leases: list[Claim]
    jobs: list[Stored]
    ended: list[Ended]
    schedules: list[Schedule]


class Counts(Struct, frozen=True):
    """Numbers of jobs by state at rest, of queue entries by function, and of leases.

    ``doing`` are the numbers of jobs with at least one lease, by state at rest.
    """

    states: dict[State, int]
    queued: dict[str, int]
    leased: int
    doing: dict[State, int] = {}

    @property
    def shown(self) -> dict[State, int]:
        """Numbers of jobs by the state that is shown."""
        shown = {state: self.states.get(state, 0) for state in State}
        for state, jobs in self.doing.items():
            shown[state] -= jobs
            shown[state.shown(leased=True)] += jobs
        return shown


NO_LIMITS: Mapping[str, int] = MappingProxyType({})
"""The limits of a claim that has none."""

Listener = Callable[[Mapping[str, Job | None]], None]
"""Called with the changed jobs by id; None: read the job. An empty mapping: any job may have changed."""


class ClaimRequest(NamedTuple):
    """The arguments of `Store.claim`; ``lease`` in seconds, ``limits`` by function."""

    worker: str
    functions: tuple[str, ...]
    limit: int
    lease: float
    limits: Mapping[str, int] = NO_LIMITS


class Store(Protocol):
    """The contract of a store."""

    kind: str
    """The kind of store, such as ``sqlite``; cursors of one kind are invalid for another."""

    def now(self) -> float:
        """The time of the store. All decisions use it."""

    async def open(self) -> None:
        """Connect, and create or migrate the tables or keys.

        Raises `StoreUnusable` if they belong to another program or to a newer version.
        """

    async def close(self) -> None:
        """Finish running calls and disconnect. Waiting and later calls raise `StoreUnavailable`.

        The store can be opened again.
        """

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write each change atomically, independent of the others; an outcome for each, in order.

        If a batch has several changes of one job, one of them is written. The id of a new job must not be in
        use, nor remembered as gone. A lease is in force until a change or `release` ends it, even after it
        has expired: a late result counts if no other worker has taken the step. The results and the journal
        entries of a change are written in the same atomic step. When this call returns, its writes survive a
        crash of any process and a power failure.
        """

    async def claim(
        self,
        worker: str,
        functions: Sequence[str],
        limit: int,
        lease: float,
        wait: float = 0.0,
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> list[Claim]:
        """Move up to ``limit`` ready steps of ``functions`` from the queue into leases of ``worker``.

        Of a function that has an entry in ``limits`` (at least 1), at most that many are claimed; all others
        are served as if its further steps were not there. The claim is atomic. Of all functions, the highest
        priority is claimed first. Of equal priority, each function gets an equal share of the limit (rounded
        up), the function that was served longest ago first; the rest of unused shares is divided among the
        functions that used their share. Within a function and a priority, the earlier due time is first. A
        store of several shards decides by what it reads of all of them just before it claims; a claim of
        another worker may come in between. Leases last ``lease`` seconds; each has a token that was never
        used before. If no step is ready, the call waits up to ``wait`` seconds for one. The cost does not
        depend on the length of the queues. A cancelled call releases the steps that it claimed.
        """

    def heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        """Register a worker for ``lease`` seconds from now, and extend its leases to the same time.

        A registration that lasts longer already stays as long: a worker that waits for steps over HTTP is
        registered until its request ends. Leases get exactly this time.
        A worker whose ``state`` is "stopped" is removed from the register. Returns the ``rev`` of the job of
        each lease; None: the lease was lost. The registration and each lease are written independently.
        Blocks for at most a few seconds: call it from a thread, never on an event loop.
        """

    async def release(self, held: Sequence[Held]) -> None:
        """Release steps that have not run: each returns, atomically, to its previous queue entry."""

    async def report(self, held: Held, progress: bytes) -> bool:
        """Store the progress of an attempt (JSON). False: the lease is lost, and nothing was stored."""

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        """The jobs with these ids, in their order; each job is consistent with its leases."""

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Large results (JSON) of steps, each by job id and step; None: there is no such result.

        `commit` writes each result once; it is kept until the job is removed. No other verb reads results.
        """

    async def journal(self, job_id: str, after: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries of a job's journal with numbers over ``after``, in their order.

        `commit` numbers the entries of a job from 1, and removes those that are over `Entry.keep`. They are
        kept until the job is removed; for a job that does not exist there are none.
        """

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` when jobs change in this process, or, shortly after, when they change in another.

        It is called from any thread and must return immediately. Returns a function that removes it.
        """

    async def page(self, which: Filter, limit: int, after: str | None = None) -> Candidates:
        """Up to ``limit`` jobs that may match, in the order of the filter, starting after a position.

        The order is about that of creation: a job may be found up to an hour before its place by its time.
        The store reads a bounded number of jobs per call, so a rare match among many jobs takes several short
        calls. It need not compare the ``schedule``, the ``error`` and the exact time. Raises `ValueError`
        for an invalid position.
        """

    async def due(self, limit: int) -> Due:
        """The work of maintenance that is due: up to ``limit`` entries of each kind. Changes nothing."""

    async def remove(self, jobs: Sequence[Ended], remember: float) -> list[bool]:
        """Remove ended jobs, each atomically; for each, in order, whether it was removed.

        A job that has another revision or has not ended stays. The ids are remembered for ``remember``
        seconds; `find` reports them as gone. Also removes a bounded number of expired ids, idempotency keys
        and workers.
        """

    async def workers(self) -> list[WorkerInfo]:
        """The registered workers, sorted by id, including those whose registration expired recently.

        ``running`` is the number of leases that the worker holds now.
        """

    async def counts(self) -> Counts:
        """The counters. The cost depends on the number of running steps, not on the number of jobs."""

    async def put_schedule(self, schedule: Schedule) -> bool:
        """Write a schedule, or remove the stored one if ``removed`` is set.

        The stored schedule of this name must have the same ``id`` and the previous ``rev``; for ``rev`` 1,
        there must be none. Otherwise returns False and changes nothing.
        """

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        """The schedule of this name, if it exists; without a name, all schedules, sorted by name."""
