"""Writes the outcomes of attempts.

All outcomes of one job that come together make one change, and the changes of all jobs that come together
make one commit. While a change of a job is being written, later outcomes of that job wait for it; they make
the next change of the job as it is then, so that the job is not read again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec import Struct

from raincheck.core import lifecycle
from raincheck.core.clock import chance
from raincheck.core.errors import IllegalTransition, StoreError
from raincheck.core.lifecycle import LateFinish
from raincheck.core.model import Change, Job
from raincheck.core.retry import Backoff
from raincheck.store.base import Held, Missing, Store
from raincheck.worker.attempt import InFlight
from raincheck.worker.attempt_log import AttemptLog
from raincheck.worker.outcome import Outcome

logger = logging.getLogger("raincheck.worker")


class Ending(Struct, eq=False, gc=False):
    """The newest known revision of a job, the outcomes being written to it, and those that came later."""

    job: Job
    outcomes: list[Outcome]
    waiting: list[Outcome] = []

    def take_waiting(self) -> None:
        """Go on with the outcomes that came later."""
        self.outcomes, self.waiting = self.waiting, []
        self.job = max((self.job, *(o.attempt.job for o in self.outcomes)), key=lambda job: job.rev)


class Completer:
    """Writes and logs outcomes, and removes an attempt from ``in_flight`` once its outcome is written or
    discarded.

    While the store is away it keeps trying: the leases are extended meanwhile, so nothing is lost.
    """

    def __init__(self, store: Store, in_flight: InFlight, log: AttemptLog) -> None:
        self._store = store
        self._in_flight = in_flight
        self._log = log
        self._endings: dict[str, Ending] = {}
        self._writes: set[asyncio.Task[None]] = set()

    def complete(self, outcomes: Sequence[Outcome]) -> None:
        """Write these; the outcomes of one job in their order."""
        fresh: dict[str, Ending] = {}
        for outcome in outcomes:
            job = outcome.attempt.job
            if (ending := self._endings.get(job.id)) is not None:
                ending.waiting.append(outcome)
            elif (ending := fresh.get(job.id)) is not None:
                ending.outcomes.append(outcome)
            else:
                fresh[job.id] = Ending(job, [outcome])
        if fresh:
            self._endings.update(fresh)
            write = asyncio.create_task(self._write(list(fresh.values())))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Write no more; leases whose outcome was not written run out."""
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, endings: list[Ending]) -> None:
        """Write outcomes, then those of the same jobs that came meanwhile, until none came."""
        while endings:
            await self._settle(endings)
            for ending in endings:
                if not ending.waiting:
                    del self._endings[ending.job.id]
            endings = [ending for ending in endings if ending.waiting]
            for ending in endings:
                ending.take_waiting()

    async def _settle(self, endings: list[Ending]) -> None:
        """Try until each outcome is written or discarded."""
        backoff = Backoff()
        while endings:
            try:
                await self._commit(endings)
                await self._read([ending for ending in endings if ending.outcomes])
            except StoreError as error:
                count = sum(len(ending.outcomes) for ending in endings)
                logger.warning("%d outcomes wait for the store: %s", count, error)
                await asyncio.sleep(backoff.next(chance()))
            except Exception:  # noqa: BLE001 - logged with the outcome that raises it
                await self._settle_apart(endings)
            endings = [ending for ending in endings if ending.outcomes]

    async def _settle_apart(self, endings: list[Ending]) -> None:
        """One of these outcomes raises: write each on its own, so that the others are written."""
        outcomes = [(ending, outcome) for ending in endings for outcome in ending.outcomes]
        if len(outcomes) == 1:
            attempt = outcomes[0][1].attempt
            logger.exception("%s: its outcome cannot be written", attempt)
            self._in_flight.remove(attempt)
        else:
            for ending, outcome in outcomes:
                alone = Ending(ending.job, [outcome])
                await self._settle([alone])
                ending.job = alone.job
        for ending in endings:
            ending.outcomes = []

    async def _commit(self, endings: list[Ending]) -> None:
        """Write one change per job; outcomes that do not apply stay in ``Ending.outcomes``."""
        now = self._store.now()
        tried: list[Ending] = []
        changes: list[Change] = []
        for ending in endings:
            try:
                triggers = [outcome.trigger for outcome in ending.outcomes]
                changes.append(lifecycle.advance(ending.job, triggers, now))
                tried.append(ending)
            except IllegalTransition as error:
                logger.debug("job %s: %s", ending.job.id, error)
        results = await self._store.commit(changes) if changes else []
        self._log.ended(
            [
                (change.job, self._note_written(ending, change))
                for ending, change, result in zip(tried, changes, results, strict=True)
                if result is None
            ]
        )

    def _note_written(self, ending: Ending, change: Change) -> list[Outcome]:
        """Go on from a change that is written; returns the outcomes that are part of it."""
        ending.job = change.job
        outcomes, ending.outcomes = ending.outcomes, []
        for position in reversed(change.not_applied):
            outcome = outcomes.pop(position)
            if change.job.state.ended:  # and with it all its leases
                self._log.discarded(outcome, "its job has ended")
                self._in_flight.remove(outcome.attempt)
            else:
                ending.outcomes.insert(0, outcome)
        for outcome in outcomes:
            self._in_flight.remove(outcome.attempt)
        if not change.job.state.ended:
            self._in_flight.update(change.job)
        return outcomes

    async def _read(self, endings: list[Ending]) -> None:
        """Read each job whose outcomes did not apply, once; then retry, discard or give back each outcome."""
        if not endings:
            return
        back: list[Outcome] = []
        found = await self._store.find([ending.job.id for ending in endings])
        for ending, stored in zip(endings, found, strict=True):
            now = None if isinstance(stored, Missing) else stored
            attempts = [outcome.attempt.attempt for outcome in ending.outcomes]
            meanings = lifecycle.on_late_finish(attempts, ending.job.rev, now)
            again: list[Outcome] = []
            for outcome, meaning in zip(ending.outcomes, meanings, strict=True):
                if meaning is LateFinish.ADVANCE:
                    again.append(outcome)
                elif meaning is LateFinish.GIVE_BACK:
                    back.append(outcome)
                else:
                    self._log.discarded(outcome, "its lease was lost")
                    self._in_flight.remove(outcome.attempt)
            ending.outcomes = again
            if now is not None:
                ending.job = now.job
                self._in_flight.update(now.job)
        await self._give_back(back)

    async def _give_back(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            logger.error("%s: its outcome does not fit the job; the step is given back", outcome.attempt)
        if outcomes:
            await give_back(self._store, [outcome.attempt.held for outcome in outcomes])
        for outcome in outcomes:
            self._in_flight.remove(outcome.attempt)


async def give_back(store: Store, held: Sequence[Held]) -> None:
    """Return steps to the queue, unrun; if the store is away, their leases run out."""
    try:
        await store.release(held)
    except StoreError as error:
        logger.warning("%d steps could not be given back, their leases run out: %s", len(held), error)
