"""Maintenance: recovers lost leases, applies due times and deadlines, fires schedules, prunes ended jobs.

Every worker and every server does it. Each pass reads what is due and applies the lifecycle to it. The store
rejects a change of a job that another process has changed, so that nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Self

from msgspec.structs import asdict

from raincheck.core import lifecycle
from raincheck.core.clock import chance
from raincheck.core.errors import IllegalTransition, StoreError
from raincheck.core.model import Change, Claim, Job, Schedule, Stored
from raincheck.core.triggers import Check, Lost, Trigger
from raincheck.engine.engine import Engine
from raincheck.engine.groups.gatherer import Gatherer
from raincheck.logs import CurrentAttempt
from raincheck.store.base import Ended

logger = logging.getLogger("raincheck.maintenance")
attempt_logger = logging.getLogger("raincheck.attempt")

EVERY = 1.0
"""Seconds between passes; a lost lease must be recovered within two."""

SWEEP_EVERY = 10.0
BATCH = 500
"""Jobs per pass and kind."""


class Done(NamedTuple):
    """How many steps, jobs and firings a pass has handled."""

    recovered: int = 0
    woken: int = 0
    fired: int = 0
    pruned: int = 0


class Maintenance:
    """Does maintenance while its context is open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._declared = False
        self._tasks: list[asyncio.Task[None]] = []
        self._gatherer = Gatherer(engine.jobs)

    async def __aenter__(self) -> Self:
        await self._gatherer.__aenter__()
        passes = ((self.do_due, EVERY), (self.sweep, SWEEP_EVERY))
        self._tasks = [asyncio.create_task(self._repeat(one_pass, every)) for one_pass, every in passes]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._gatherer.__aexit__(*exc_info)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def do_due(self) -> Done:
        """Do everything that is due: one pass. Returns how many of each kind.

        Leases that have expired are recovered, due times and deadlines applied, the declared schedules put
        (once) and due ones fired, and ended jobs removed after their ``result_ttl``.
        """
        due = await self._store.due(BATCH)
        counts = await asyncio.gather(
            self._recover(due.leases),
            self._wake(due.jobs),
            self._fire(due.schedules),
            self._prune(due.ended),
            return_exceptions=True,
        )
        for count in counts:
            if isinstance(count, BaseException):
                raise count
        return Done(*(count for count in counts if isinstance(count, int)))

    async def do_now(self) -> bool:
        """Do what is due, and gather the runs whose members have ended. Returns whether there was anything.

        True also if the store is unavailable: then it is not known.
        """
        try:
            due = await self.do_due()
            return bool(await self._gatherer.check_noted()) or any(due)
        except StoreError as error:
            logger.warning("what is due is not known, the store is unavailable: %s", error)
            return True

    async def sweep(self) -> Done:
        """Remove the ids of pruned jobs and the idempotency keys that have expired."""
        await self._store.remove([], self._engine.limits.remember)
        return Done()

    async def _recover(self, lost: list[Claim]) -> int:
        # this process extends its own: they expired because it was blocked, or the clock was set forward
        claims = [claim for claim in lost if not self._engine.holds(claim.lease.token)]
        if not claims:
            return 0
        await self._engine.workers.read()
        triggers: list[tuple[Job, Trigger]] = []
        for claim in claims:
            options = self._engine.workers.options(claim.step.function)
            triggers.append((claim.job, Lost(lifecycle.attempt_of(claim.lease), options)))
            attempt = CurrentAttempt.of(claim)
            attempt_logger.warning(
                "job %s, %s: attempt %d is lost, worker %s stopped sending heartbeats",
                attempt.job,
                attempt.function,
                attempt.attempt,
                attempt.worker,
                extra=asdict(attempt) | {"event": "lost"},
            )
        return await self._decide(triggers)

    async def _wake(self, stored: list[Stored]) -> int:
        return await self._decide([(each.job, Check(each.leases)) for each in stored])

    async def _fire(self, due: list[Schedule]) -> int:
        await self._declare()  # a new one fires in the next pass, if it is due
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
            logger.info("removed %d ended jobs whose result_ttl has passed", removed)
        return removed

    async def _decide(self, triggers: list[tuple[Job, Trigger]]) -> int:
        """Write the changes. If another process changed a job meanwhile, the next pass reads it again."""
        by_job: dict[str, tuple[Job, list[Trigger]]] = {}
        for job, trigger in triggers:
            by_job.setdefault(job.id, (job, []))[1].append(trigger)
        changes: list[Change] = []
        applied: list[int] = []
        for job, job_triggers in by_job.values():
            with suppress(IllegalTransition):
                changes.append(lifecycle.advance(job, job_triggers, self._store.now()))
                applied.append(len(job_triggers) - len(changes[-1].not_applied))
        outcomes = await self._store.commit(changes) if changes else []
        return sum(count for count, outcome in zip(applied, outcomes, strict=True) if outcome is None)

    async def _repeat(self, one_pass: Callable[[], Awaitable[Done]], every: float) -> None:
        """Repeat passes forever; without a pause while there is more than one batch to do."""
        while True:
            count = 0
            try:
                count = max(await one_pass())
            except StoreError as error:
                logger.debug("maintenance failed, the store is unavailable: %s", error)
            except Exception:
                logger.exception("maintenance failed, retrying")
            if count < BATCH:
                await asyncio.sleep(every * (0.75 + 0.25 * chance()))
