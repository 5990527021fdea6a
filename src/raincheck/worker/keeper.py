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
        self._asked_loop: float | None = None
        self._news = Event()
        self._stopped = False

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._news.set()

    def say(self, state: str) -> None:
        """Be known to be in this state, from now on."""
        self._info = replace(self._info, state=state)
        self._news.set()

    def run(self) -> None:
        pause = self._lease / 3
        while not self._stopped:
            self._news.wait(pause)
            self._news.clear()
            if not self._stopped:
                pause = self._lease / 3 if self._pass() else self._lease / 12
                self._look_at_loop()

    def _pass(self) -> bool:
        try:
            self._beat()
        except StoreError as error:
            logger.warning("the leases could not be extended: %s", error)
        except Exception:
            logger.exception("the leases could not be extended")
        else:
            return True
        return False

    def _beat(self) -> None:
        due = monotonic() - self._lease / 4
        runs = [run for run in self._shift.held() if run.extended_at <= due]
        asked = monotonic()
        revs = self._store.heartbeat(self._info, [run.held for run in runs], self._lease)
        for run, rev in zip(runs, revs, strict=True):
            run.extended_at = asked
            if rev is None or rev > run.claim.job.rev:
                call_into(self._loop, self._shift.notices.changed, run, rev)

    def _look_at_loop(self) -> None:
        """Warn if the loop has not come round since the last look."""
        if self._asked_loop is None:
            self._asked_loop = monotonic()
            call_into(self._loop, self._came_round)
        elif (lag := monotonic() - self._asked_loop) > self._lease / 4:
            logger.warning(
                "a function has blocked the event loop for %.1f s: run it with def, or process=True", lag
            )

    def _came_round(self) -> None:
        self._asked_loop = None
