"""A queue that one loop reads in batches, and that other threads may fill."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from raincheck.store.listeners import call_into

T = TypeVar("T")


class Inbox(Generic[T]):
    """Items for one reader on the event loop that it was made on.

    A burst of items costs one wake-up, from whichever thread they come.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._woken = False

    def put(self, item: T) -> None:
        """Add an item, on the loop."""
        self._items.append(item)
        self._arrived.set()

    def put_from_thread(self, item: T) -> None:
        """Add an item, from any thread."""
        self._items.append(item)
        if not self._woken:  # a wake-up too many does no harm, so this needs no lock
            self._woken = True
            call_into(self._loop, self._arrived.set)

    async def take(self) -> list[T]:
        """All items that are there, in order; waits for one."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        self._woken = False  # before the items are taken: what comes from now on wakes the reader again
        return [self._items.popleft() for _ in range(len(self._items))]
