"""Keeps the leases, from an OS thread of its own: no function, however it blocks, can starve it."""

from __future__ import annotations

import asyncio
import logging
from threading import Event, Thread

from msgspec.structs import replace

from raincheck.clock import monotonic
from raincheck.errors import StoreError
from raincheck.model import WorkerInfo
from raincheck.store.base import Store
from raincheck.store.signals import call_into
from raincheck.worker.shift import Shift

logger = logging.getLogger("raincheck.worker")


class Keeper(Thread):
    """Three times a lease, extends every lease of the shift and says that the worker is there."""

    def __init__(self, store: Store, lease: float, shift: Shift, info: WorkerInfo) -> None:
        super().__init__(name="raincheck-keeper", daemon=True)
        self._store = store
        self._lease = lease
        self._shift = shift
        self._info = info
        self._loop = asyncio.get_running_loop()
        self._beat = monotonic()
        self._stopped = Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def say(self, state: str) -> None:
        """Register with this state from now on."""
        self._info = replace(self._info, state=state)

    def run(self) -> None:
        with asyncio.Runner() as runner:
            while not self._stopped.wait(self._lease / 3):
                try:
                    self._extend()
                    info = replace(self._info, running=len(self._shift.crew.runs))
                    runner.run(self._store.register(info, self._lease))
                except StoreError as error:
                    logger.warning("the leases could not be extended: %s", error)
                except TimeoutError:
                    logger.warning("the leases could not be extended in time")
                self._look_at_loop()

    def _extend(self) -> None:
        due = monotonic() - self._lease / 4
        runs = [run for run in self._shift.held() if run.extended_at <= due]
        if not runs:
            return
        asked = monotonic()
        for run, rev in zip(runs, self._store.extend([run.held for run in runs], self._lease), strict=True):
            run.extended_at = asked
            if rev is None or rev > run.claim.job.rev:
                call_into(self._loop, self._shift.notices.changed, run, rev)

    def _look_at_loop(self) -> None:
        """Warn when the loop has not come round since the last look."""
        lag = monotonic() - self._beat
        if lag > self._lease * 2 / 3:
            logger.warning(
                "a function has blocked the event loop for %.1f s: run it with def, or process=True", lag
            )
        call_into(self._loop, self._came_round)

    def _came_round(self) -> None:
        self._beat = monotonic()
