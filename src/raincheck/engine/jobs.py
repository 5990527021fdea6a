"""The operations on jobs: submit, find, wait, cancel, retry, forget, list.

The lifecycle decides and the store writes. If another process changed the job in between, `Jobs.decide` reads
it and decides again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raincheck.core import lifecycle
from raincheck.core.clock import monotonic
from raincheck.core.errors import (
    Gone,
    IdempotencyMismatch,
    IllegalTransition,
    NotFound,
    StoreError,
    StoreUnavailable,
    WrongState,
    checked_id,
)
from raincheck.core.limits import Limits
from raincheck.core.model import Job, Key, Stored
from raincheck.core.triggers import Retry, Trigger
from raincheck.engine.idempotency import IdempotencyKey
from raincheck.engine.results import load_one
from raincheck.store import listing
from raincheck.store.base import Conflict, Duplicate, Ended, Filter, Missing, Store
from raincheck.store.listing import Page
from raincheck.store.watches import Watch, Watches

MAX_TRIES = 50
"""Tries to write a decision; a second is needed only if several processes change one job."""

LONG_WAIT = 3600.0
"""Seconds between reads of a job in a wait without limit."""

Stop = asyncio.Future[None]
"""A future that ends a wait early when it is done."""


class Jobs:
    """The jobs in a store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.watches = Watches(store)
        self.limits = limits

    async def submit(
        self,
        draft: Job,
        key: IdempotencyKey | None = None,
        wait: float | None = 0.0,
        stop: Stop | None = None,
    ) -> Stored:
        """Store a new job durably; then wait up to ``wait`` seconds for its end (None: without limit).

        An idempotency ``key`` that was used before for the same request gives the job of then. The wait ends
        early when ``stop`` is done. Raises `IdempotencyMismatch` if the key was used for another request, and
        `StoreError` if the job could not be stored. If the store fails during a limited wait, nothing is
        raised: the job was accepted. After a wait, the job has its large results.
        """
        if wait == 0.0:
            return await self._store(draft, key)
        with self.watches.watch(draft.id) as watch:
            stored = await self._store(draft, key)
            if stored.job.state.ended:
                return stored
            own_watch = watch if stored.job.id == draft.id else None
            try:
                return await load_one(self.store, await self.wait(stored.job.id, wait, stop, own_watch))
            except StoreError:
                if wait is None:
                    raise
                return stored

    async def _store(self, draft: Job, key: IdempotencyKey | None) -> Stored:
        """The stored job, or the earlier job of its key as it is now."""
        now = self.store.now()
        record = key and Key(key.name, key.fingerprint, now + self.limits.idempotency)
        change = lifecycle.submit(draft, now, record)
        (outcome,) = await self.store.commit([change])
        if isinstance(outcome, Duplicate) and key is not None:
            if outcome.fingerprint != key.fingerprint:
                raise IdempotencyMismatch(
                    f"idempotency key {key.text!r} was used for another request: repeat that request, or "
                    "use a new key"
                )
            return await self.find(outcome.job_id)
        if isinstance(outcome, Conflict):
            raise StoreUnavailable("the job could not be stored; submit it again")
        return Stored(change.job)

    async def find(self, job_id: str) -> Stored:
        """The job. Raises `NotFound` or `Gone`."""
        (stored,) = await self.store.find([checked_id(job_id)])
        if isinstance(stored, Missing):
            if stored.gone:
                raise Gone(f"job {job_id} ended and was removed")
            raise NotFound(f"no job has the id {job_id}")
        return stored

    async def wait(
        self, job_id: str, seconds: float | None = None, stop: Stop | None = None, watch: Watch | None = None
    ) -> Stored:
        """The job when it has ended, or as it is after ``seconds`` or when ``stop`` is done.

        With a ``watch`` that is older than the job, it is not read first. Raises `NotFound` or `Gone`.
        """
        if watch is not None:
            return await self._watch(watch, job_id, seconds, stop)
        with self.watches.watch(checked_id(job_id)) as new_watch:
            stored = await self.find(job_id)
            return stored if stored.job.state.ended else await self._watch(new_watch, job_id, seconds, stop)

    async def _watch(self, watch: Watch, job_id: str, seconds: float | None, stop: Stop | None) -> Stored:
        until = None if seconds is None else monotonic() + seconds
        while True:
            left = LONG_WAIT if until is None else until - monotonic()
            changed = await _changed(watch, left, stop)
            is_over = (until is not None and not changed) or (stop is not None and stop.done())
            if watch.is_open and not is_over:
                continue  # what another process writes fires the watch again
            stored = watch.ended or await self.find(job_id)
            if stored.job.state.ended or is_over:
                return stored

    async def cancel(self, job_id: str) -> Stored:
        """Cancel a job: at once if no step is running, else as soon as its worker has stopped the step.

        A job that is already cancelled, or being cancelled, does not change. Raises `NotFound`, or
        `WrongState` if the job is done or failed.
        """
        return await self.decide(job_id, lifecycle.cancel_of)

    async def retry(self, job_id: str) -> Stored:
        """Continue a failed or cancelled job where it ended. Raises `NotFound` or `WrongState`."""
        return await self.decide(job_id, lambda stored: Retry())

    async def forget(self, job_id: str) -> None:
        """Delete an ended job. Raises `NotFound`, or `WrongState` if it has not ended."""
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

    async def changed(self, job_id: str, rev: int, wait: float) -> None:
        """Wait until the job has a higher revision than ``rev``, at most ``wait`` seconds."""
        await self.watches.changed(job_id, rev, wait)

    async def decide(self, job_id: str, decision: Callable[[Stored], Trigger | None]) -> Stored:
        """Read the job, apply the trigger that ``decision`` returns, and write the change (None: none)."""
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
        raise StoreUnavailable(f"other processes keep changing job {job_id}: try again")


async def _changed(watch: Watch, seconds: float, stop: Stop | None) -> bool:
    """Wait for a change. Returns False if none came within ``seconds`` or before ``stop`` was done."""
    if stop is None:
        return await watch.changed(seconds)
    if stop.done():
        return False
    changed = asyncio.ensure_future(watch.changed(seconds))
    try:
        await asyncio.wait((changed, stop), return_when=asyncio.FIRST_COMPLETED)
        return changed.done() and changed.result()
    finally:
        changed.cancel()
