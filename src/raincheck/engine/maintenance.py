"""Maintenance: recovers lost leases, due times, deadlines, groups, schedules, and prunes ended jobs.

Every worker and every server does this. Each pass reads what has come due and asks the lifecycle what
follows; the store's guards keep two processes from doing the same thing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from raincheck.core import lifecycle
from raincheck.core.clock import chance
from raincheck.core.errors import IllegalTransition, StoreError
from raincheck.core.model import Change, Claim, Job, Schedule, Stored
from raincheck.core.triggers import Check, Lost, Trigger
from raincheck.engine.engine import Engine
from raincheck.engine.groups.gatherer import Gatherer
from raincheck.store.base import Ended

logger = logging.getLogger("raincheck.maintenance")

EVERY = 1.0
"""Seconds between passes that recover and wake; the promise is to recover within two."""

SWEEP_EVERY = 10.0
BATCH = 500


class Maintenance:
    """Runs the duties while its context is open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._declared = False
        self._tasks: list[asyncio.Task[None]] = []
        self._gatherer = Gatherer(engine.jobs)

    async def __aenter__(self) -> Self:
        await self._gatherer.__aenter__()
        duties = ((self.look, EVERY), (self.sweep, SWEEP_EVERY))
        self._tasks = [asyncio.create_task(self._repeat(duty, every)) for duty, every in duties]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._gatherer.__aexit__(*exc_info)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> int:
        """Do all that is due; of which kind most was done, how much that was."""
        due = await self._store.due(BATCH)
        done = await asyncio.gather(
            self._recover(due.leases),
            self._wake(due.jobs),
            self._fire(due.schedules),
            self._prune(due.ended),
            return_exceptions=True,
        )
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return max(each for each in done if isinstance(each, int))

    async def recover(self) -> int:
        """Return steps whose lease has run out to the queue, or fail them; how many."""
        return await self._recover((await self._store.due(BATCH)).leases)

    async def wake(self) -> int:
        """Note due times and deadlines that have come; how many."""
        return await self._wake((await self._store.due(BATCH)).jobs)

    async def fire(self) -> int:
        """Put the schedules that the app declares, once; then make the jobs of firings that have come."""
        await self._declare()
        return await self._fire((await self._store.due(BATCH)).schedules)

    async def prune(self) -> int:
        """Remove ended jobs that were kept long enough; how many."""
        return await self._prune((await self._store.due(BATCH)).ended)

    async def sweep(self) -> int:
        """Remove memories whose time has run out."""
        await self._store.remove([], self._engine.limits.remember)
        return 0

    async def _recover(self, lost: list[Claim]) -> int:
        # those of this process ran out because it was held up, or the clock set forward: it extends them now
        claims = [claim for claim in lost if not self._engine.holds(claim.lease.token)]
        if not claims:
            return 0
        await self._engine.workers.read()
        triggers: list[tuple[Job, Trigger]] = []
        for claim in claims:
            options = self._engine.workers.options(claim.step.function)
            triggers.append((claim.job, Lost(lifecycle.attempt_of(claim.lease), options)))
            logger.warning(
                "job %s: worker %s is gone while running %s",
                claim.job.id,
                claim.lease.worker,
                claim.step.function,
            )
        return await self._decide(triggers)

    async def _wake(self, stored: list[Stored]) -> int:
        return await self._decide([(each.job, Check(each.leases)) for each in stored])

    async def _fire(self, due: list[Schedule]) -> int:
        await self._declare()
        return await self._engine.scheduler.fire(due)

    async def _declare(self) -> None:
        if not self._declared:
            for schedule in self._engine.schedules:
                await self._engine.scheduler.declare(schedule)
            self._declared = True

    async def _prune(self, ended: list[Ended]) -> int:
        if not ended:
            return 0
        removed = sum(await self._store.remove(ended, self._engine.limits.remember))
        if removed:
            logger.info("%d ended jobs were removed, their time to be kept was over", removed)
        return removed

    async def _decide(self, triggers: list[tuple[Job, Trigger]]) -> int:
        """Write what follows; where another was quicker, the next pass will see."""
        by_job: dict[str, tuple[Job, list[Trigger]]] = {}
        for job, trigger in triggers:
            by_job.setdefault(job.id, (job, []))[1].append(trigger)
        changes: list[Change] = []
        applied: list[int] = []
        for job, its_triggers in by_job.values():
            with suppress(IllegalTransition):
                changes.append(lifecycle.advance(job, its_triggers, self._store.now()))
                applied.append(len(its_triggers) - len(changes[-1].not_applied))
        outcomes = await self._store.commit(changes) if changes else []
        return sum(count for count, outcome in zip(applied, outcomes, strict=True) if outcome is None)

    async def _repeat(self, duty: Callable[[], Awaitable[int]], every: float) -> None:
        """Make passes for ever: at once again while there is more than one batch to do."""
        while True:
            done = 0
            try:
                done = await duty()
            except StoreError as error:
                logger.debug("maintenance waits for the store: %s", error)
            except Exception:
                logger.exception("maintenance will try again")
            if done < BATCH:
                await asyncio.sleep(every * (0.75 + 0.25 * chance()))
