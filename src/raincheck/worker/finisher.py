"""Writes the outcomes of attempts: all that come in while a write is under way make the next one."""

from __future__ import annotations

import asyncio
import logging

from raincheck import lifecycle
from raincheck.clock import chance
from raincheck.errors import IllegalTransition, StoreError
from raincheck.model import Change
from raincheck.store.base import Conflict, Missing, Store
from raincheck.triggers import Trigger
from raincheck.worker.run import Run

logger = logging.getLogger("raincheck.worker")

PAUSE = 0.1
MAX_PAUSE = 5.0


class Finisher:
    """Takes outcomes, and lets go of a run once its outcome is written, or has become void.

    While the store is away it keeps trying: the leases go on being extended, so nothing is lost.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outcomes: list[tuple[Run, Trigger]] = []
        self._writes: set[asyncio.Task[None]] = set()
        self.held: dict[int, Run] = {}

    def add(self, run: Run, trigger: Trigger) -> None:
        """An attempt has ended so."""
        self.held[run.held.token] = run
        self._outcomes.append((run, trigger))
        if len(self._outcomes) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            write = asyncio.create_task(self._write(outcomes))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def drain(self) -> None:
        """Wait until all outcomes are written."""
        while self._outcomes or self._writes:
            self._flush()
            await asyncio.gather(*self._writes)

    async def _write(self, outcomes: list[tuple[Run, Trigger]]) -> None:
        pause = PAUSE
        while True:
            try:
                return await self._try(outcomes)
            except StoreError as error:
                logger.warning("%d outcomes wait for the store: %s", len(outcomes), error)
                await asyncio.sleep(pause * (0.5 + chance()))
                pause = min(2 * pause, MAX_PAUSE)
                outcomes = [pair for pair in outcomes if pair[0].held.token in self.held]

    async def _try(self, outcomes: list[tuple[Run, Trigger]]) -> None:
        now = self._store.now()
        changes: list[Change] = []
        written: list[tuple[Run, Trigger]] = []
        unsettled: list[tuple[Run, Trigger]] = []
        for run, trigger in outcomes:
            try:
                changes.append(lifecycle.advance(run.claim.job, trigger, now))
                written.append((run, trigger))
            except IllegalTransition:  # the job has changed since it was claimed
                unsettled.append((run, trigger))
        for (run, trigger), result in zip(written, await self._store.commit(changes), strict=True):
            if isinstance(result, Conflict):
                unsettled.append((run, trigger))
            else:
                self.held.pop(run.held.token, None)
        for run, trigger in unsettled:
            await self._settle(run, trigger)
            self.held.pop(run.held.token, None)

    async def _settle(self, run: Run, trigger: Trigger) -> None:
        """The job has changed since it was claimed: decide anew, unless the lease is gone."""
        while (change := await self._decide(run, trigger)) is not None:
            (result,) = await self._store.commit([change])
            if result is None:
                return

    async def _decide(self, run: Run, trigger: Trigger) -> Change | None:
        (found,) = await self._store.find([run.held.job_id])
        if isinstance(found, Missing) or all(lease.token != run.held.token for lease in found.leases):
            logger.warning("%s: the lease was lost, what it returned counts for nothing", run)
            return None
        try:
            return lifecycle.advance(found.job, trigger, self._store.now())
        except IllegalTransition as error:
            logger.error("%s: %s", run, error)
            await self._store.release([run.held])
            return None
