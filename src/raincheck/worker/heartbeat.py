"""Extends the leases, from an OS thread of its own: no function, however it blocks, can starve it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable
from threading import Event, Thread, get_ident
from types import FrameType
from typing import Any

from msgspec.structs import replace

from raincheck.core.clock import monotonic
from raincheck.core.errors import StoreError
from raincheck.core.model import WorkerInfo
from raincheck.store.base import Store
from raincheck.store.listeners import call_into
from raincheck.worker.attempt import Inbox, InFlight, RunningAttempt
from raincheck.worker.cancellation import Beat

logger = logging.getLogger("raincheck.worker")

LOOK = 0.5
"""Seconds between looks at the event loop, at most."""

BLOCKED = 1.0
"""Seconds without a turn of the event loop that are worth a line in the log, at most."""


class Heartbeat(Thread):
    """Three times a lease (of ``lease`` seconds), extends every lease ``in_flight`` and registers the worker.

    What it learns of the leases goes into ``beats``. It looks at the event loop on which it is made.
    """

    def __init__(
        self, store: Store, lease: float, info: WorkerInfo, in_flight: InFlight, beats: Inbox[Beat | str]
    ) -> None:
        super().__init__(name="raincheck-heartbeat", daemon=True)
        self._store = store
        self._lease = lease
        self._info = info
        self._in_flight = in_flight
        self._beats = beats
        self._loop = Loop(min(BLOCKED, lease / 4))
        self._abandoned = 0
        self._changed = Event()
        self._stopped = False

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._changed.set()

    def tell(self, **fields: Any) -> None:
        """Register the worker with these fields changed, now and from now on."""
        self._info = replace(self._info, **fields)
        self._changed.set()

    def run(self) -> None:
        """Beat until stopped."""
        due = monotonic() + self._lease / 3
        while not self._stopped:
            changed = self._changed.wait(min(LOOK, self._lease / 12, max(0.0, due - monotonic())))
            self._changed.clear()
            if self._stopped:
                return
            changed = changed or self._in_flight.abandoned != self._abandoned
            if changed or monotonic() >= due:
                due = monotonic() + (self._lease / 3 if self._try_beat() else self._lease / 12)
            self._loop.look(self._in_flight)

    def _try_beat(self) -> bool:
        """Beat; False: it must be tried again soon."""
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
        attempts = self._in_flight.all()
        self._abandoned = self._in_flight.abandoned
        info = replace(self._info, abandoned=self._abandoned)
        revs = self._store.heartbeat(info, [attempt.held for attempt in attempts], self._lease)
        for attempt, rev in zip(attempts, revs, strict=True):
            if rev is None or rev > attempt.job.rev:
                self._beats.put_from_thread(Beat(attempt.token, rev))


class Loop:
    """The running event loop, seen from another thread: whether something blocks it for ``most`` seconds."""

    def __init__(self, most: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._most = most
        self._asked_at: float | None = None
        self._is_told = False

    def look(self, in_flight: InFlight) -> None:
        """Log once what blocks the loop, if it has not come round for too long."""
        if self._asked_at is None:
            self._asked_at = monotonic()
            call_into(self._loop, self._came_round)
        elif not self._is_told and (seconds := monotonic() - self._asked_at) > self._most:
            self._is_told = True
            frame = sys._current_frames().get(self._thread)
            where = blocked_at(_frames(frame), in_flight.all())
            logger.warning(
                "%s has blocked the event loop for %.1f s: run it with def, or process=True", where, seconds
            )

    def _came_round(self) -> None:
        self._asked_at = None
        self._is_told = False


def blocked_at(frames: Iterable[FrameType], attempts: Iterable[RunningAttempt]) -> str:
    """The function that blocks the loop and where, by the loop's stack (innermost frame first)."""
    names = {
        code: attempt.function.name
        for attempt in attempts
        if (code := getattr(attempt.function.function, "__code__", None)) is not None
    }
    innermost = ""
    for frame in frames:
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        innermost = innermost or place
        if (name := names.get(frame.f_code)) is not None:
            return f"{name} ({place})" if place == innermost else f"{name} ({place}, at {innermost})"
    return f"something ({innermost or 'unknown'})"


def _frames(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
