"""The work in hand: what happens to a claim, from when it came in to when its outcome is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from raincheck.clock import monotonic
from raincheck.engine.engine import Engine
from raincheck.engine.results import load_previous
from raincheck.errors import StoreError
from raincheck.model import Claim
from raincheck.store.base import Held
from raincheck.triggers import Alarm, Stopped
from raincheck.worker.attempt import failed, judge, prepare
from raincheck.worker.crew import Crew
from raincheck.worker.finisher import Finisher
from raincheck.worker.notices import Notices
from raincheck.worker.processes import Processes
from raincheck.worker.reporter import Reporter
from raincheck.worker.run import Reason, Run

logger = logging.getLogger("raincheck.worker")

LAST_TRIES = 2.0
"""Seconds for which a worker that leaves tries to write outcomes, if the store is away."""


class Shift:
    """Begins claims and judges how they end."""

    def __init__(self, engine: Engine, concurrency: int, processes: int, state: Mapping[str, Any]) -> None:
        self.store = store = engine.store
        self._engine = engine
        self._state = state
        self._quiet = asyncio.Event()
        self._returned: list[Run] = []
        self._returning: asyncio.Task[None] | None = None
        self.finisher = Finisher(store)
        self.reporter = Reporter(store)
        self.crew = Crew(concurrency, Processes(processes, self.reporter.report), self._over)
        self.when_room: list[Callable[[], None]] = []
        """To be called whenever an attempt has ended."""
        self.notices = Notices(store, self.crew.stop)

    def held(self) -> list[Run]:
        """Every run with a lease of ours; safe to call from any thread."""
        return [*self.crew.runs.copy().values(), *self.finisher.held.copy().values()]

    @property
    def tables(self) -> list[Mapping[int, Any]]:
        """The runs with a lease of ours, by its token: maintenance leaves them alone."""
        return [self.crew.runs, self.finisher.held]

    async def previous(self, claims: list[Claim]) -> dict[int, bytes | None]:
        """What ``ctx.previous`` is for those of the claims that want it, by token.

        None: the job was removed. If it cannot be read, or nobody waits for it any more, the steps go back.
        """
        wanted = [claim for claim in claims if claim.step.stage > 0 and self._wants_context(claim)]
        if not wanted:
            return {}
        try:
            previous = await load_previous(self.store, wanted)
        except BaseException:
            await self._release([Held(c.job.id, c.lease.step, c.lease.token) for c in claims])
            raise
        return {claim.lease.token: each for claim, each in zip(wanted, previous, strict=True)}

    def _wants_context(self, claim: Claim) -> bool:
        function = self._engine.functions.get(claim.step.function)
        return function is not None and function.signature.context is not None

    def begin(self, claims: list[Claim], previous: Mapping[int, bytes | None] = {}) -> None:
        """Run what was claimed; not what is old because the loop was blocked when it came."""
        now = monotonic()
        runs = [run for claim in claims if (run := self._prepare(claim, previous)) is not None]
        late = [run for run in runs if run.claim.lease.until <= self.store.now()]
        if late:
            runs = [run for run in runs if run not in late]
            self._returning = asyncio.create_task(self._give_back(late))
        for run in runs:
            run.extended_at = now
            self.notices.begin(run)
        self.crew.start(runs)

    def _prepare(self, claim: Claim, previous: Mapping[int, bytes | None]) -> Run | None:
        """A run for a claim; None if its outcome is known already."""
        function = self._engine.functions.get(claim.step.function)
        if function is None:  # a worker claims only what it offers
            raise LookupError(claim.step.function)
        run = Run(claim, function)
        job, lease = claim.job, claim.lease
        results = previous.get(lease.token, b"null")
        if results is None:
            logger.warning("%s: its job was removed before it began", run)
            return None
        run.previous = results
        if job.cancel_requested_at is not None:
            self.finisher.add(run, Stopped(run.attempt))
        elif job.expires_at is not None and job.expires_at <= lease.since:
            self.finisher.add(run, Alarm((lease,)))
        else:
            try:
                prepare(run, self.reporter.report, self._state)
                return run
            except Exception as error:  # noqa: BLE001 - the arguments do not fit, or their class raises
                self.finisher.add(run, failed(run, error, fatal=True))
        return None

    def _over(self, run: Run, result: Any, error: BaseException | None) -> None:
        self.notices.end(run)
        if run.reason is Reason.GIVEN_BACK and error is not None:
            self._returned.append(run)
        elif run.reason is not Reason.LOST:
            self.finisher.add(run, judge(run, result, error, self._engine.limits))
        self._quiet.set()
        for call in self.when_room:
            call()

    async def wind_up(self, grace: float) -> None:
        """Give back what has not begun, and let the rest end within ``grace`` seconds."""
        runs = self.crew.take_waiting()
        for run in runs:
            self.notices.end(run)
        await self._give_back(runs)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._finished()
                await self.finisher.written()

    async def abort(self) -> None:
        """Stop what still runs, and give it back: another worker will run it again."""
        for run in list(self.crew.runs.values()):
            self.crew.stop(run, Reason.GIVEN_BACK)
        await self._finished()
        await self._give_back(self._returned)

    async def close(self) -> None:
        """Let go of everything; outcomes still to be written are written, if the store is there."""
        self.notices.close()
        await self.crew.close()
        await self.reporter.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_TRIES):
                await self.finisher.written()
        await self.finisher.close()

    async def _finished(self) -> None:
        """Wait until nothing runs."""
        while self.crew.runs:
            self._quiet.clear()
            await self._quiet.wait()

    async def _give_back(self, runs: list[Run]) -> None:
        if not runs:
            return
        await self._release([run.held for run in runs])

    async def _release(self, held: list[Held]) -> None:
        try:
            await self.store.release(held)
        except StoreError as error:
            logger.warning("%d steps could not be given back, their leases run out: %s", len(held), error)
