"""Claims of this process that wait for something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from threading import Lock
from typing import Self

from raincheck.store.listeners import call_into


class ClaimWaiters:
    """Wakes waiting claims when a function of theirs may have something to do, in their order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[ClaimWaiter, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether a claim waits."""
        return bool(self._waiting)

    def wake(self, functions: Iterable[str] | None) -> None:
        """Something of these functions (None: of any) may be ready. May be called from any thread."""
        if not self._waiting:
            return
        names = None if functions is None else set(functions)
        with self._lock:
            woken = [w for w in self._waiting if names is None or not names.isdisjoint(w.functions)]
        loops: dict[asyncio.AbstractEventLoop, list[ClaimWaiter]] = {}
        for waiter in woken:
            loops.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in loops.items():
            call_into(loop, _wake, waiters)

    def waiter(self, functions: Iterable[str]) -> ClaimWaiter:
        """A waiter on the running loop, that is told of these functions within its ``with``."""
        return ClaimWaiter(self, frozenset(functions))

    def join(self, waiter: ClaimWaiter) -> None:
        """Wake it from now on."""
        with self._lock:
            self._waiting[waiter] = None

    def leave(self, waiter: ClaimWaiter) -> None:
        """Wake it no more."""
        with self._lock:
            self._waiting.pop(waiter, None)


class ClaimWaiter:
    """A claim that waits."""

    def __init__(self, waiters: ClaimWaiters, functions: frozenset[str]) -> None:
        self._waiters = waiters
        self.functions = functions
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def __enter__(self) -> Self:
        self._waiters.join(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._waiters.leave(self)

    async def wait(self, seconds: float) -> None:
        """Wait for a hint, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            pass
        self.event.clear()


def _wake(waiters: list[ClaimWaiter]) -> None:
    for waiter in waiters:
        waiter.event.set()
