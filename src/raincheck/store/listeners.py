"""The listeners of one store in one process, and calls from its threads into event loops."""

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
        """Tell ``listener`` of every change, until the returned function is called."""
        mark = object()
        with self._lock:
            first = not self._listeners
            self._listeners[mark] = listener
        if first:
            self._on_first()

        def unlisten() -> None:
            with self._lock:
                self._listeners.pop(mark, None)

        return unlisten

    def notify(self, jobs: Mapping[str, Job | None]) -> None:
        """These jobs have changed; an empty mapping: any may have. May be called from any thread."""
        if not self._listeners:
            return
        with self._lock:
            listeners = tuple(self._listeners.values())
        for listener in listeners:
            try:
                listener(jobs)
            except Exception:  # the others are told all the same
                logger.exception("a listener failed")


def call_into(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> bool:
    """Call a function on a loop of another thread; False: that loop is closed already."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True
