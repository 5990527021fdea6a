"""The listeners of one store in one process, and calls from threads into event loops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from threading import Lock

from raincheck.core.model import Job
from raincheck.store.base import Listener

logger = logging.getLogger("raincheck.store")


class Listeners:
    """The listeners of one store. ``on_first`` is called when the first listener is added."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._lock = Lock()
        self._listeners: dict[object, Listener] = {}

    @property
    def present(self) -> bool:
        """Whether there is a listener."""
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Notify ``listener`` of every change, until the returned function is called."""
        key = object()
        with self._lock:
            first = not self._listeners
            self._listeners[key] = listener
        if first:
            self._on_first()

        def unlisten() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return unlisten

    def notify(self, jobs: Mapping[str, Job | None]) -> None:
        """Notify the listeners of changed jobs; an empty mapping: any job may have changed. Thread-safe."""
        if not self._listeners:
            return
        with self._lock:
            listeners = tuple(self._listeners.values())
        for listener in listeners:
            try:
                listener(jobs)
            except Exception:  # the other listeners are still notified
                logger.exception("a listener raised an error")


def call_into(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> bool:
    """Call a function on an event loop, from any thread. False: the loop is closed."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True
