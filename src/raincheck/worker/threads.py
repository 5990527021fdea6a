"""Threads for functions that are not async.

Fed through one queue; what has ended goes into an inbox that wakes the loop once for a burst of quick
functions. (`asyncio.to_thread` costs some 40 µs a call, this a few.)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Thread

from raincheck.worker.attempt import Finished, RunningAttempt
from raincheck.worker.inbox import Inbox


class Threads:
    """At most ``size`` threads, started as they are needed; what has ended is put into ``finished``.

    Each function runs in a copy of ``context``: what it sets there is not seen by the next.
    """

    def __init__(self, size: int, context: Context, finished: Inbox[Finished]) -> None:
        self._size = size
        self._context = context
        self._finished = finished
        self._inbox: SimpleQueue[RunningAttempt | None] = SimpleQueue()
        self._threads = 0

    def start(self, attempts: Sequence[RunningAttempt], running: int) -> None:
        """Begin these; with them, ``running`` attempts are to be run in threads."""
        for attempt in attempts:
            self._inbox.put(attempt)
        self._start_threads(running)

    def replace(self, running: int) -> None:
        """A thread does not come back from its attempt: another one may take its place."""
        self._threads -= 1
        self._start_threads(running)

    def take_waiting(self) -> list[RunningAttempt]:
        """Take back what no thread has begun."""
        attempts: list[RunningAttempt] = []
        with suppress(Empty):
            while True:
                attempt = self._inbox.get_nowait()
                if attempt is not None and not attempt.ended:
                    attempts.append(attempt)
        return attempts

    def close(self) -> None:
        """Let each thread end once its function has returned."""
        self._inbox.put(None)

    def _start_threads(self, running: int) -> None:
        while self._threads < min(self._size, running):
            self._threads += 1
            Thread(target=self._work, name=f"raincheck-function-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (attempt := self._inbox.get()) is not None:
            result, error = None, None
            if attempt.reason is None:  # else it was told to stop before it began
                args, kwargs = attempt.arguments
                try:
                    result = self._context.copy().run(attempt.function.function, *args, **kwargs)
                except BaseException as raised:  # noqa: BLE001 - whatever a function raises is its outcome
                    error = raised
            attempt.returned()
            self._finished.put_from_thread(Finished(attempt, result, error))
            if attempt.abandoned:  # another thread has taken this one's place
                return
        self._inbox.put(None)  # for the next thread
