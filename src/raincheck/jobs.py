"""What can be asked of jobs: submit, find, wait, cancel, retry, forget, list.

Decisions are the lifecycle's, writing is the store's; here they meet. Where another was quicker,
`decide` reads again and decides anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from raincheck import lifecycle
from raincheck.clock import monotonic
from raincheck.errors import (
    Gone,
    IdempotencyMismatch,
    IllegalTransition,
    NotFound,
    StoreUnavailable,
    WrongState,
)
from raincheck.limits import Limits
from raincheck.model import Job, Key, Stored
from raincheck.stages import gathering
from raincheck.store import listing
from raincheck.store.base import Conflict, Duplicate, Ended, Filter, Missing, Store
from raincheck.store.listing import Page
from raincheck.store.watches import Watch, Watches
from raincheck.triggers import Cancel, Retry, Trigger

MAX_TRIES = 50
"""How often a decision is made anew; only many writers of one job ever need a second."""

LONG_WAIT = 3600.0


class Jobs:
    """The jobs in a store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.watches = Watches(store)
        self.limits = limits

    async def submit(self, draft: Job, key: str | None = None, fingerprint: bytes = b"") -> Job:
        """Store a new job; durable when this returns.

        With an idempotency ``key`` that was used before, for the same fingerprint: that job, as it is
        now. Raises `IdempotencyMismatch` if it was for another.
        """
        now = self.store.now()
        kept = key and Key(key, fingerprint, now + self.limits.idempotency)
        change = lifecycle.submit(draft, now, kept or None)
        (outcome,) = await self.store.commit([change])
        if isinstance(outcome, Duplicate):
            if outcome.fingerprint != fingerprint:
                raise IdempotencyMismatch(
                    f"the idempotency key {key!r} was used for another request (job {outcome.job_id}); "
                    "send the same request again, or use a new key"
                )
            return (await self.find(outcome.job_id)).job
        if isinstance(outcome, Conflict):
            raise StoreUnavailable("the job could not be stored; submit it again")
        return change.job

    async def find(self, job_id: str) -> Stored:
        """The job. Raises `NotFound` or `Gone`."""
        (found,) = await self.store.find([job_id])
        return _present(job_id, found)

    async def submit_and_wait(
        self, draft: Job, seconds: float | None = None, key: str | None = None, fingerprint: bytes = b""
    ) -> Stored:
        """Store a new job, and give it back once it has ended, or as it is after ``seconds``."""
        with self.watches.watch(draft.id) as watch:
            job = await self.submit(draft, key, fingerprint)
            if job.id == draft.id:  # a job of our own, not one that its key led to
                return await self.watched(watch, job.id, seconds)
        return await self.wait(job.id, seconds)

    async def watched(self, watch: Watch, job_id: str, seconds: float | None = None) -> Stored:
        """A job watched since before it was submitted, once it has ended, or as it is after ``seconds``."""
        until = monotonic() + (LONG_WAIT if seconds is None else seconds)
        while await watch.changed(until - monotonic()):
            if (ended := watch.ended) is not None:
                return ended
            stored = await self.find(job_id)
            if stored.job.state.ended:
                return stored
        return await self.wait(job_id, None if seconds is None else 0.0)

    async def wait(self, job_id: str, seconds: float | None = None) -> Stored:
        """The job once it has ended, or as it is after ``seconds``. Raises `NotFound` or `Gone`."""
        until = None if seconds is None else monotonic() + seconds
        stored = await self.find(job_id)
        while not stored.job.state.ended:
            left = LONG_WAIT if until is None else until - monotonic()
            found = await self.watches.changed(job_id, stored.job.rev, left) if left > 0 else None
            if found is None:
                if until is not None:
                    return await self.find(job_id)
                continue
            stored = _present(job_id, found)
        return stored

    async def cancel(self, job_id: str) -> Stored:
        """Stop a job: at once if no step is being run, else as soon as its worker has stopped it.

        A job that is cancelled, or being cancelled, is left as it is. Raises `NotFound`, or
        `WrongState` if it ended otherwise.
        """

        def decision(stored: Stored) -> Trigger | None:
            job = stored.job
            stopping = stored.leases or gathering(job) is not None
            if job.state == "cancelled" or (job.cancel_requested_at is not None and stopping):
                return None
            return Cancel(stored.leases)

        return await self.decide(job_id, decision)

    async def retry(self, job_id: str) -> Stored:
        """Let a failed or cancelled job go on where it ended. Raises `NotFound` or `WrongState`."""
        return await self.decide(job_id, lambda stored: Retry())

    async def forget(self, job_id: str) -> None:
        """Remove an ended job now. Raises `NotFound`, or `WrongState` if it has not ended."""
        for _ in range(MAX_TRIES):
            job = (await self.find(job_id)).job
            if not job.state.ended:
                raise WrongState(
                    f"job {job_id} is {job.state}: only an ended job can be deleted; cancel it first"
                )
            if await self.store.remove([Ended(job_id, job.rev)], self.limits.remember) == [True]:
                return

    async def page(self, which: Filter, limit: int, cursor: str | None = None) -> Page:
        """A page of jobs, newest first."""
        return await listing.page(self.store, which, limit, cursor)

    async def decide(self, job_id: str, decision: Callable[[Stored], Trigger | None]) -> Stored:
        """Read the job, apply the trigger that ``decision`` gives for it, and write what follows."""
        for _ in range(MAX_TRIES):
            stored = await self.find(job_id)
            trigger = decision(stored)
            if trigger is None:
                return stored
            try:
                change = lifecycle.advance(stored.job, [trigger], self.store.now())
            except IllegalTransition as error:
                raise WrongState(f"job {job_id} is {stored.job.state}: {error}") from None
            (outcome,) = await self.store.commit([change])
            if outcome is None:
                leases = () if change.job.state.ended else stored.leases
                return Stored(change.job, leases)
        raise StoreUnavailable(f"job {job_id} keeps changing; try again")


def fingerprint(*parts: bytes) -> bytes:
    """What tells one request from another: a digest of its parts."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _present(job_id: str, found: Stored | Missing) -> Stored:
    if isinstance(found, Missing):
        if found.gone:
            raise Gone(f"job {job_id} ended, and was removed since")
        raise NotFound(f"there is no job {job_id}")
    return found
