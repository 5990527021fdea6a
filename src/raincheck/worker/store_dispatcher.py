"""Gives a worker its attempts from a store, and writes their outcomes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim, WorkerInfo
from raincheck.engine.results import load_previous
from raincheck.functions.registry import Functions
from raincheck.store.base import NO_LIMITS, Held, Store
from raincheck.worker.attempt import InFlight, Reason, RunningAttempt
from raincheck.worker.attempt_log import AttemptLog
from raincheck.worker.cancellation import Beat, Cancellation
from raincheck.worker.completer import Completer, give_back
from raincheck.worker.dispatcher import Claimed
from raincheck.worker.outcome import Outcome

logger = logging.getLogger("raincheck.worker")


class StoreDispatcher:
    """The `raincheck.worker.dispatcher.Dispatcher` of one worker, on a store.

    ``worker`` is the id of the worker; its leases last ``lease`` seconds.
    """

    def __init__(self, store: Store, functions: Functions, worker: str, lease: float) -> None:
        self.in_flight = InFlight()
        self.lease = lease
        self._store = store
        self._functions = functions
        self._worker = worker
        self._log = AttemptLog()
        self.attempts = self._log.attempts
        self._completer = Completer(store, self.in_flight, self._log)
        self._cancellation = Cancellation(store, self.in_flight)

    def now(self) -> float:
        """The time of the store."""
        return self._store.now()

    async def open(self, info: WorkerInfo) -> None:
        """Register the worker. Raises `StoreError`."""
        await asyncio.to_thread(self.extend, info, [])

    async def claim(
        self, functions: Sequence[str], limit: int, wait: float, limits: Mapping[str, int] = NO_LIMITS
    ) -> Claimed:
        """Claim steps, and read what they need to run. Raises `StoreError`."""
        claims = await self._store.claim(self._worker, functions, limit, self.lease, wait, limits)
        return Claimed(claims, await self._previous(claims))

    async def _previous(self, claims: list[Claim]) -> dict[int, bytes | None]:
        wanted = [claim for claim in claims if claim.step.stage > 0 and self._has_context(claim)]
        if not wanted:
            return {}
        try:
            previous = await load_previous(self._store, wanted)
        except BaseException:
            await give_back(self._store, [Held(c.job.id, c.lease.step, c.lease.token) for c in claims])
            raise
        return {claim.lease.token: each for claim, each in zip(wanted, previous, strict=True)}

    def _has_context(self, claim: Claim) -> bool:
        function = self._functions.get(claim.step.function)
        return function is not None and function.wants_context

    def extend(self, info: WorkerInfo, attempts: Sequence[RunningAttempt]) -> None:
        """Send a heartbeat; `stopping` gets the lost leases and the newer revisions. Raises `StoreError`."""
        revs = self._store.heartbeat(info, [attempt.held for attempt in attempts], self.lease)
        for attempt, rev in zip(attempts, revs, strict=True):
            if rev is None or rev > attempt.job.rev:
                self._cancellation.beats.put_from_thread(Beat(attempt.token, rev))

    async def stopping(self) -> list[tuple[RunningAttempt, Reason]]:
        """Wait until attempts have to stop; return them, and why."""
        return await self._cancellation.next()

    def complete(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes."""
        self._completer.complete(outcomes)

    async def release(self, attempts: Sequence[RunningAttempt]) -> None:
        """Return attempts to the queue, unrun."""
        await give_back(self._store, [attempt.held for attempt in attempts])
        for attempt in attempts:
            self.in_flight.remove(attempt)

    async def report(self, progress: Sequence[tuple[RunningAttempt, bytes]]) -> None:
        """Store progress."""
        await asyncio.gather(*(self._report(attempt, value) for attempt, value in progress))

    async def _report(self, attempt: RunningAttempt, progress: bytes) -> None:
        try:
            await self._store.report(attempt.held, progress)
        except StoreError as error:
            logger.debug("the progress of %s was not stored: %s", attempt, error)

    async def close(self) -> None:
        """Write no more, and watch no jobs."""
        self._cancellation.close()
        await self._completer.close()
        self._log.close()
