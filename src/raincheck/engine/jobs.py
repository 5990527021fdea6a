"""What can be asked of jobs: submit, find, wait, cancel, retry, forget, list.

The lifecycle decides and the store writes. Where another process was quicker, `Jobs.decide` reads the job
and decides again.
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
"""How often a decision is made again; only many writers of one job ever need a second try."""

LONG_WAIT = 3600.0

Stop = asyncio.Future[None]
"""Ends a wait before its time, once it is done."""


class Jobs:
    """The jobs in a store, and the watches on them."""

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
        """Store a new job, durably; then wait up to ``wait`` seconds for its end (None: without limit).

        With an idempotency ``key`` that was used before for the same request, it is that job. The wait ends
        early when ``stop`` is done. Raises `IdempotencyMismatch` if the key was used for another request,
        `StoreError` if the job could not be stored. A store that fails during a limited wait raises nothing:
        the job was accepted. After a wait, large results are with the job.
        """
        if wait == 0.0:
            return await self._store(draft, key)
        with self.watches.watch(draft.id) as watch:
            stored = await self._store(draft, key)
            if stored.job.state.ended:
                return stored
            own = watch if stored.job.id == draft.id else None
            try:
                return await load_one(self.store, await self.wait(stored.job.id, wait, stop, own))
            except StoreError:
                if wait is None:
                    raise
                return stored

    async def _store(self, draft: Job, key: IdempotencyKey | None) -> Stored:
        """The job as it was just stored, or the one that its key stands for, as it is now."""
        now = self.store.now()
        kept = key and Key(key.name, key.fingerprint, now + self.limits.idempotency)
        change = lifecycle.submit(draft, now, kept)
        (outcome,) = await self.store.commit([change])
        if isinstance(outcome, Duplicate) and key is not None:
            if outcome.fingerprint != key.fingerprint:
                raise IdempotencyMismatch(
                    f"the idempotency key {key.given!r} was used for another request: send the same request "
                    "again, or use a new key"
                )
            return await self.find(outcome.job_id)
        if isinstance(outcome, Conflict):
            raise StoreUnavailable("the job could not be stored; submit it again")
        return Stored(change.job)

    async def find(self, job_id: str) -> Stored:
        """The job. Raises `NotFound` or `Gone`."""
        (found,) = await self.store.find([job_id])
        return _present(job_id, found)

    async def wait(
        self, job_id: str, seconds: float | None = None, stop: Stop | None = None, watch: Watch | None = None
    ) -> Stored:
        """The job once it has ended, or as it is after ``seconds``, or when ``stop`` is done.

        A ``watch`` that is older than the job saves reading it first. Raises `NotFound` or `Gone`.
        """
        if watch is not None:
            return await self._ended(watch, job_id, seconds, stop)
        with self.watches.watch(job_id) as own:
            stored = await self.find(job_id)
            return stored if stored.job.state.ended else await self._ended(own, job_id, seconds, stop)

    async def _ended(self, watch: Watch, job_id: str, seconds: float | None, stop: Stop | None) -> Stored:
        until = None if seconds is None else monotonic() + seconds
        while True:
            left = LONG_WAIT if until is None else until - monotonic()
            changed = await _changed(watch, left, stop)
            stored = watch.ended or await self.find(job_id)
            over = until is not None and not changed
            if stored.job.state.ended or over or (stop is not None and stop.done()):
                return stored

    async def cancel(self, job_id: str) -> Stored:
        """Stop a job: at once if no step is being run, else as soon as its worker has stopped it.

        A job that is cancelled, or being cancelled, is left as it is. Raises `NotFound`, or
        `WrongState` if it ended otherwise.
        """
        return await self.decide(job_id, lifecycle.cancel_of)

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

    async def changed(self, job_id: str, rev: int, wait: float) -> None:
        """Wait until the job's ``rev`` is over ``rev``, or ``wait`` seconds have passed."""
        await self.watches.changed(job_id, rev, wait)

    async def decide(self, job_id: str, decision: Callable[[Stored], Trigger | None]) -> Stored:
        """Read the job, apply the trigger that ``decision`` gives for it, and write the change."""
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


async def _changed(watch: Watch, seconds: float, stop: Stop | None) -> bool:
    """Wait for a change; False: there was none for ``seconds``, or until ``stop`` was done."""
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


def _present(job_id: str, found: Stored | Missing) -> Stored:
    if isinstance(found, Missing):
        if found.gone:
            raise Gone(f"job {job_id} ended, and was removed since")
        raise NotFound(f"there is no job {job_id}")
    return found
