"""Threads for functions that are not async.

Fed through one queue; results come back in a deque that one call into the loop empties, so that a
burst of quick functions costs one wake-up. (`asyncio.to_thread` costs some 40 µs a call, this a few.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from raincheck.store.signals import call_into
from raincheck.worker.run import Run


class Threads:
    """At most ``size`` threads, started as they are needed; ``over`` is called on the loop.

    Each function runs in a copy of ``context``: what it sets there is not seen by the next.
    """

    def __init__(
        self, size: int, context: Context, over: Callable[[Run, Any, BaseException | None], None]
    ) -> None:
        self._size = size
        self._context = context
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[Run | None] = SimpleQueue()
        self._results: deque[tuple[Run, Any, BaseException | None]] = deque()
        self._called = False
        self._threads = 0
        self._busy = 0

    def start(self, runs: list[Run]) -> None:
        """Begin these."""
        for run in runs:
            self._inbox.put(run)
        self._busy += len(runs)
        self._see_to_threads()

    def _see_to_threads(self) -> None:
        while self._threads < min(self._size, self._busy):
            self._threads += 1
            Thread(target=self._work, name=f"raincheck-function-{self._threads}", daemon=True).start()

    def give_up(self) -> None:
        """A thread does not come back from its run: let another take its place."""
        self._threads -= 1
        self._busy -= 1
        self._see_to_threads()

    def take_waiting(self) -> list[Run]:
        """Take back what no thread has begun."""
        runs: list[Run] = []
        with suppress(Empty):
            while True:
                run = self._inbox.get_nowait()
                if run is not None and not run.over:
                    runs.append(run)
        self._busy -= len(runs)
        return runs

    def close(self) -> None:
        """Let the threads end when they have done what they are at."""
        self._inbox.put(None)

    def _work(self) -> None:
        while (run := self._inbox.get()) is not None:
            if run.over:
                continue
            result, error = None, None
            if run.reason is None:  # else it was told to stop before it began
                args, kwargs = run.arguments
                try:
                    result = self._context.copy().run(run.function.function, *args, **kwargs)
                except BaseException as raised:  # noqa: BLE001 - whatever a function raises is its outcome
                    error = raised
            given_up = run.over
            self._results.append((run, result, error))
            if not self._called:
                self._called = True
                call_into(self._loop, self._deliver)
            if given_up:  # another thread has taken this one's place
                return
        self._inbox.put(None)  # for the next thread

    def _deliver(self) -> None:
        self._called = False
        while self._results:
            run, result, error = self._results.popleft()
            if not run.over:
                self._busy -= 1
                self._over(run, result, error)
