"""Extends the leases, from an OS thread of its own: a function that blocks the event loop cannot stop it."""

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
from raincheck.core.errors import RaincheckError
from raincheck.core.model import WorkerInfo
from raincheck.store.listeners import call_into
from raincheck.worker.attempt import InFlight, RunningAttempt
from raincheck.worker.dispatcher import Dispatcher

logger = logging.getLogger("raincheck.worker")

CHECK_EVERY = 0.5
"""Seconds between two checks of the event loop, at most."""

BLOCKED = 1.0
"""Seconds after which a blocked event loop is logged, at most."""


class Heartbeat(Thread):
    """Extends every lease in flight and keeps the worker registered, three times per lease.

    It also checks the event loop that creates it.
    """

    def __init__(self, dispatcher: Dispatcher, info: WorkerInfo) -> None:
        super().__init__(name="raincheck-heartbeat", daemon=True)
        self._dispatcher = dispatcher
        self._info = info
        self._in_flight = dispatcher.in_flight
        self._loop = Loop(min(BLOCKED, dispatcher.lease / 4))
        self._abandoned = 0
        self._changed = Event()
        self._stopped = False

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._changed.set()

    def update(self, **fields: Any) -> None:
        """Change fields of the worker's registration, at once."""
        self._info = replace(self._info, **fields)
        self._changed.set()

    def run(self) -> None:
        """Send heartbeats until stopped."""
        lease = self._dispatcher.lease
        due = monotonic() + lease / 3
        while not self._stopped:
            changed = self._changed.wait(min(CHECK_EVERY, lease / 12, max(0.0, due - monotonic())))
            self._changed.clear()
            if self._stopped:
                return
            changed = changed or self._in_flight.abandoned != self._abandoned
            if changed or monotonic() >= due:
                due = monotonic() + (lease / 3 if self._try_send() else lease / 12)
            self._loop.check(self._in_flight)

    def _try_send(self) -> bool:
        """Send a heartbeat; False: try again soon."""
        try:
            self._send()
        except RaincheckError as error:
            logger.warning("the leases could not be extended: %s", error)
        except Exception:
            logger.exception("the leases could not be extended")
        else:
            return True
        return False

    def _send(self) -> None:
        self._abandoned = self._in_flight.abandoned
        info = replace(self._info, abandoned=self._abandoned)
        self._dispatcher.extend(info, self._in_flight.all())


class Loop:
    """The running event loop, checked from another thread: is it blocked for more than ``most`` seconds?"""

    def __init__(self, most: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._most = most
        self._called_at: float | None = None
        self._is_logged = False

    def check(self, in_flight: InFlight) -> None:
        """Log, once, the function that blocks the loop, if a call into it has waited for too long."""
        if self._called_at is None:
            self._called_at = monotonic()
            call_into(self._loop, self._called)
        elif not self._is_logged and (seconds := monotonic() - self._called_at) > self._most:
            self._is_logged = True
            frame = sys._current_frames().get(self._thread)
            where = blocked_at(_frames(frame), in_flight.all())
            logger.warning(
                "%s has blocked the event loop for %.1f s: run it with def, or process=True", where, seconds
            )

    def _called(self) -> None:
        self._called_at = None
        self._is_logged = False


def blocked_at(frames: Iterable[FrameType], attempts: Iterable[RunningAttempt]) -> str:
    """The function that blocks the loop, its file and line, from the loop's stack (innermost frame first)."""
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
