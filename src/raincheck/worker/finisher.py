"""Writes the outcomes of attempts: all that come in while a write is under way make the next one."""

from __future__ import annotations

import asyncio
import logging

from raincheck import lifecycle
from raincheck.clock import chance
from raincheck.errors import IllegalTransition, StoreError
from raincheck.model import Change, Claim
from raincheck.store.base import Missing, Store
from raincheck.triggers import Trigger
from raincheck.worker.run import Run

logger = logging.getLogger("raincheck.worker")

PAUSE = 0.1
MAX_PAUSE = 5.0

Outcome = tuple[Run, Trigger]


class Finisher:
    """Takes outcomes, and lets go of a run once its outcome is written, or has become void.

    While the store is away it keeps trying: the leases go on being extended, so nothing is lost.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes: list[Outcome] = []
        self._writes: set[asyncio.Task[None]] = set()
        self.held: dict[int, Run] = {}

    def add(self, run: Run, trigger: Trigger) -> None:
        """An attempt has ended so, perhaps without having begun."""
        run.over = True
        self.held[run.token] = run
        self._outcomes.append((run, trigger))
        if len(self._outcomes) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            write = asyncio.create_task(self._write(outcomes))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def written(self) -> None:
        """Wait until there is nothing to be written."""
        while self._outcomes or self._writes:
            self._flush()
            await asyncio.wait(self._writes)

    async def close(self) -> None:
        """Write no more; leases whose outcome could not be written run out."""
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, outcomes: list[Outcome]) -> None:
        pause = PAUSE
        while outcomes := [outcome for outcome in outcomes if outcome[0].token in self.held]:
            try:
                await self._try(outcomes)
            except StoreError as error:
                logger.warning("%d outcomes wait for the store: %s", len(outcomes), error)
                await asyncio.sleep(pause * (0.5 + chance()))
                pause = min(2 * pause, MAX_PAUSE)
            except Exception:
                if len(outcomes) == 1:
                    run = outcomes[0][0]
                    logger.exception("%s: what came of it cannot be written", run)
                    self.held.pop(run.token, None)
                for outcome in outcomes:  # one by one: the others must not suffer
                    await self._write([outcome])

    async def _try(self, outcomes: list[Outcome]) -> None:
        """Write them; where a job has changed since it was claimed, read it and decide anew."""
        while outcomes:
            outcomes = await self._read(await self._commit(outcomes))

    async def _commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Write them, one of each job; those that did not apply."""
        now = self._store.now()
        jobs: set[str] = set()
        tried: list[Outcome] = []
        left: list[Outcome] = []
        changes: list[Change] = []
        for run, trigger in outcomes:
            job = run.claim.job
            try:
                if job.id not in jobs:
                    changes.append(lifecycle.advance(job, [trigger], now))
                    tried.append((run, trigger))
                    jobs.add(job.id)
                    continue
            except IllegalTransition as error:
                logger.debug("%s: %s", run, error)
            left.append((run, trigger))
        for outcome, result in zip(tried, await self._store.commit(changes), strict=True):
            if result is None:
                self.held.pop(outcome[0].token, None)
            else:
                left.append(outcome)
        return left

    async def _read(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Read the jobs of outcomes that did not apply; those that can be tried again."""
        if not outcomes:
            return []
        left: list[Outcome] = []
        found = await self._store.find([run.claim.job.id for run, _ in outcomes])
        for (run, trigger), stored in zip(outcomes, found, strict=True):
            if isinstance(stored, Missing) or all(lease.token != run.token for lease in stored.leases):
                logger.warning("%s: its lease was lost, what it returned counts for nothing", run)
                self.held.pop(run.token, None)
            elif stored.job.rev == run.claim.job.rev:
                logger.error("%s: what came of it fits the job no more; it is given back", run)
                await self._store.release([run.held])
                self.held.pop(run.token, None)
            else:
                run.claim = Claim(stored.job, run.claim.lease)
                left.append((run, trigger))
        return left
