"""Claims of this process that wait for something to do, and who tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from threading import Lock

from raincheck.store.signals import call_into


class Ready:
    """Wakes waiting claims when a function they are for has something ready."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event, frozenset[str]]] = set()

    def tell(self, functions: Iterable[str] | None) -> None:
        """Something of these functions (None: of any) may be ready. May be called from any thread."""
        names = None if functions is None else set(functions)
        with self._lock:
            woken = [w for w in self._waiting if names is None or not names.isdisjoint(w[2])]
        for loop, event, _ in woken:
            call_into(loop, event.set)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for a word, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()

    def join(self, functions: Iterable[str]) -> tuple[asyncio.AbstractEventLoop, asyncio.Event, frozenset[str]]:
        """Be told of these functions from now on."""
        waiter = (asyncio.get_running_loop(), asyncio.Event(), frozenset(functions))
        with self._lock:
            self._waiting.add(waiter)
        return waiter

    def leave(self, waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event, frozenset[str]]) -> None:
        """Be told no more."""
        with self._lock:
            self._waiting.discard(waiter)
