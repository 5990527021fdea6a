"""Claims of this process that wait for something to do, and who tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from threading import Lock
from typing import Self

from raincheck.store.signals import call_into


class Ready:
    """Wakes waiting claims when a function they are for may have something; who waited longest first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[Waiter, None] = {}

    def tell(self, functions: Iterable[str] | None) -> None:
        """Something of these functions (None: of any) may be ready. May be called from any thread."""
        names = None if functions is None else set(functions)
        with self._lock:
            woken = [w for w in self._waiting if names is None or not names.isdisjoint(w.functions)]
        loops: dict[asyncio.AbstractEventLoop, list[Waiter]] = {}
        for waiter in woken:
            loops.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in loops.items():
            call_into(loop, _wake, waiters)  # at once: nothing comes in between that only the last would see

    def waiter(self, functions: Iterable[str]) -> Waiter:
        """To be told of these functions within its ``with``."""
        return Waiter(self, frozenset(functions))

    def join(self, waiter: Waiter) -> None:
        """Tell it from now on."""
        with self._lock:
            self._waiting[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """Tell it no more."""
        with self._lock:
            self._waiting.pop(waiter, None)


class Waiter:
    """A claim that waits."""

    def __init__(self, ready: Ready, functions: frozenset[str]) -> None:
        self._ready = ready
        self.functions = functions
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def __enter__(self) -> Self:
        self._ready.join(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ready.leave(self)

    async def wait(self, seconds: float) -> None:
        """Wait for a word, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            pass
        self.event.clear()


def _wake(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.event.set()
