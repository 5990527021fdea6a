"""The work in hand: what happens to a claim, from when it came in to when its outcome is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from raincheck.app import App
from raincheck.clock import monotonic
from raincheck.errors import InvalidArguments
from raincheck.model import Claim
from raincheck.triggers import Alarm, Stopped
from raincheck.worker.attempt import failed, judge, prepare
from raincheck.worker.crew import Crew
from raincheck.worker.finisher import Finisher
from raincheck.worker.notices import Notices
from raincheck.worker.processes import Processes
from raincheck.worker.reporter import Reporter
from raincheck.worker.run import Reason, Run


class Shift:
    """Begins claims, judges how they end; ``made_room`` is called whenever one has ended."""

    def __init__(
        self, app: App, concurrency: int, state: Mapping[str, Any], made_room: Callable[[], None]
    ) -> None:
        store = app.jobs.store
        self._app = app
        self._store = store
        self._concurrency = concurrency
        self._state = state
        self._made_room = made_room
        self._quiet = asyncio.Event()
        self.finisher = Finisher(store)
        self.reporter = Reporter(store)
        self.crew = Crew(concurrency, self._over, Processes(self.reporter.report))
        self.notices = Notices(store, self.crew.stop)

    def room(self) -> int:
        """How many more attempts could be run."""
        return self._concurrency - len(self.crew.runs)

    def held(self) -> list[Run]:
        """Every run with a lease of ours; safe to call from any thread."""
        return [*self.crew.runs.copy().values(), *self.finisher.held.copy().values()]

    def begin(self, claims: list[Claim]) -> None:
        """Run what was claimed."""
        now = monotonic()
        runs = [run for claim in claims if (run := self._prepare(claim)) is not None]
        for run in runs:
            run.extended_at = now
            self.notices.begin(run)
        self.crew.start(runs)

    def _prepare(self, claim: Claim) -> Run | None:
        """A run for a claim; None if its outcome is known already."""
        function = self._app.functions.get(claim.step.function)
        if function is None:  # a worker claims only what it offers
            raise LookupError(claim.step.function)
        run = Run(claim, function)
        job, lease = claim.job, claim.lease
        if job.cancel_requested_at is not None:
            self.finisher.add(run, Stopped(run.attempt))
        elif job.expires_at is not None and job.expires_at <= lease.since:
            self.finisher.add(run, Alarm((lease,)))
        else:
            try:
                prepare(run, self.reporter.report, self._state)
                return run
            except InvalidArguments as error:
                self.finisher.add(run, failed(run, error))
        return None

    def _over(self, run: Run, result: Any, error: BaseException | None) -> None:
        self.notices.end(run)
        if run.reason is not Reason.LOST and run.reason is not Reason.GIVEN_BACK:
            self.finisher.add(run, judge(run, result, error, self._app.limits.result))
        self._quiet.set()
        self._made_room()

    async def finished(self) -> None:
        """Wait until nothing runs."""
        while self.crew.runs:
            self._quiet.clear()
            await self._quiet.wait()

    async def give_back(self) -> None:
        """Return what has not begun to the queue, at once."""
        runs = self.crew.take_waiting()
        for run in runs:
            self.notices.end(run)
        await self._store.release([run.held for run in runs])

    async def abort(self) -> None:
        """Return what is still running to the queue: another worker will run it again."""
        runs = list(self.crew.runs.values())
        for run in runs:
            self.crew.stop(run, Reason.GIVEN_BACK)
        await self._store.release([run.held for run in runs])

    async def close(self) -> None:
        """Let go of everything; outcomes still to be written are written."""
        self.notices.close()
        await self.crew.close()
        await self.reporter.close()
        await self.finisher.drain()
