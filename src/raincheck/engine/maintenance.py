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

from raincheck import lifecycle
from raincheck.clock import chance
from raincheck.engine.engine import Engine
from raincheck.engine.groups.gatherer import Gatherer
from raincheck.errors import IllegalTransition, StoreError
from raincheck.model import Change, Job
from raincheck.triggers import Alarm, Lost, Trigger

logger = logging.getLogger("raincheck.maintenance")

EVERY = 1.0
"""Seconds between passes that recover and wake; the promise is to recover within two."""

PRUNE_EVERY = 10.0
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
        duties = (
            (self.recover, EVERY),
            (self.wake, EVERY),
            (self.fire, EVERY),
            (self.prune, PRUNE_EVERY),
        )
        self._tasks = [asyncio.create_task(self._repeat(duty, every)) for duty, every in duties]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._gatherer.__aexit__(*exc_info)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def recover(self) -> int:
        """Return steps whose lease has run out to the queue, or fail them; how many."""
        lost = await self._store.lost(BATCH)
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

    async def wake(self) -> int:
        """Note due times and deadlines that have come; how many."""
        stored = await self._store.alarmed(BATCH)
        return await self._decide([(each.job, Alarm(each.leases)) for each in stored])

    async def fire(self) -> int:
        """Put the schedules that the app declares, once; then make the jobs of firings that have come."""
        if not self._declared:
            for schedule in self._engine.schedules:
                await self._engine.scheduler.declare(schedule)
            self._declared = True
        return await self._engine.scheduler.fire(BATCH)

    async def prune(self) -> int:
        """Remove ended jobs that were kept long enough; how many."""
        removed = await self._store.prune(BATCH, self._engine.limits.remember)
        if removed:
            logger.info("%d ended jobs were removed, their time to be kept was over", removed)
        return removed

    async def _decide(self, triggers: list[tuple[Job, Trigger]]) -> int:
        """Write what follows; where another was quicker, the next pass will see."""
        changes: list[Change] = []
        for job, trigger in triggers:
            with suppress(IllegalTransition):
                changes.append(lifecycle.advance(job, trigger, self._store.now()))
        outcomes = await self._store.commit(changes) if changes else []
        return sum(outcome is None for outcome in outcomes)

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
