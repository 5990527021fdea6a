"""A thread that owns a connection and serves calls in batches.

The calls that arrive while one batch is served are the next batch: under load, many callers share one
transaction (group commit); an idle store serves a call immediately.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from raincheck.core.errors import StoreUnavailable
from raincheck.store.listeners import call_into

T = TypeVar("T")

MAX_BATCH = 500
"""Calls per batch, at most, so that the first of many does not wait for the last."""


class Call(Generic[T]):
    """A call that waits for its answer, on the running loop or, with ``threaded``, in a thread."""

    def __init__(self, *, threaded: bool = False) -> None:
        self.loop = None if threaded else asyncio.get_running_loop()
        self.future: Any = concurrent.futures.Future() if self.loop is None else self.loop.create_future()
        self.posted: list[T | BaseException] = []
        """The answer that was sent to the loop; the caller may be cancelled before it arrives."""

    def settle(self, answer: T | BaseException) -> None:
        """Return the answer to the caller, or raise an exception there.

        Called on the loop; for a call from a thread, on any thread.
        """
        if self.future.done() or (self.loop is not None and self.loop.is_closed()):
            if not isinstance(answer, BaseException):
                self.discard(answer)
        elif isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)

    def cancel(self) -> None:
        """The caller was cancelled: discard an answer that was sent at the same time."""
        if self.future.cancel() or self.future.cancelled():
            for answer in self.posted:
                if not isinstance(answer, BaseException):
                    self.discard(answer)
        elif self.future.exception() is None:
            self.discard(self.future.result())

    def discard(self, answer: T) -> None:
        """Handle an answer that no caller receives."""


class Answers:
    """The answers of a batch; they are sent after its transaction is committed."""

    def __init__(self) -> None:
        self._answers: list[tuple[Call[Any], Any]] = []

    def add(self, call: Call[T], answer: T | BaseException) -> None:
        """Send ``answer`` to the caller with `send`."""
        self._answers.append((call, answer))

    def send(self) -> None:
        """Send all answers, with one call into each loop."""
        loops: dict[asyncio.AbstractEventLoop | None, list[tuple[Call[Any], Any]]] = {}
        for call, answer in self._answers:
            call.posted.append(answer)  # before the check for a cancelled caller: one of both sees the other
            loop = (
                None if call.future.cancelled() else call.loop
            )  # the loop of a cancelled caller may be ending
            loops.setdefault(loop, []).append((call, answer))
        for loop, answers in loops.items():
            if loop is None or not call_into(loop, _settle, answers):
                _settle(answers)


def _settle(answers: list[tuple[Call[Any], Any]]) -> None:
    for call, answer in answers:
        call.settle(answer)


def fail(calls: Iterable[Call[Any]], error: Exception) -> None:
    """Raise an error to the callers."""
    answers = Answers()
    for call in calls:
        answers.add(call, error)
    answers.send()


class Batcher:
    """The thread. It calls ``serve`` with each batch; a batch is empty after a `wake` or a timeout.

    ``timeout`` returns the seconds to wait for a call (None: no limit). ``end`` is called on the thread after
    the last batch.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[list[Call[Any]]], None],
        end: Callable[[], None],
        timeout: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._name = name
        self._serve = serve
        self._end = end
        self._timeout = timeout
        self._lock = Lock()
        self._thread: Thread | None = None
        self._inbox: SimpleQueue[Call[Any] | bool] = SimpleQueue()

    @property
    def running(self) -> bool:
        """Whether the thread accepts calls."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread."""
        with self._lock:
            self._inbox = SimpleQueue()
            self._thread = Thread(target=self._run, args=(self._inbox,), name=self._name, daemon=True)
            self._thread.start()

    def put(self, call: Call[Any]) -> None:
        """Add a call. Raises `StoreUnavailable` if the thread does not run."""
        with self._lock:  # so that no call is added after the last one
            if self._thread is None or not self._thread.is_alive():  # a forked process has no threads
                raise StoreUnavailable("the store is not open")
            self._inbox.put(call)

    async def call(self, call: Call[T]) -> T:
        """Add a call and wait for its answer."""
        self.put(call)
        try:
            answer: T = await call.future
        except asyncio.CancelledError:
            call.cancel()
            raise
        return answer

    def wake(self) -> None:
        """Call ``serve`` without a call."""
        self._inbox.put(True)

    def close(self) -> None:
        """Serve the calls that were added, then end the thread; later calls fail."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._inbox.put(False)
        if thread is not None:
            thread.join()

    def _run(self, inbox: SimpleQueue[Call[Any] | bool]) -> None:
        running = True
        while running:
            batch: list[Call[Any]] = []
            running = self._collect(inbox, batch)
            try:
                if batch or running:
                    self._serve(batch)
            except Exception as error:  # noqa: BLE001 - it is raised to the callers; the thread continues
                fail(batch, error)
        self._end()

    def _collect(self, inbox: SimpleQueue[Call[Any] | bool], batch: list[Call[Any]]) -> bool:
        """Add the calls that are there or arrive in time to the batch. False: it is the last batch."""
        wait = self._timeout()
        with suppress(Empty):
            while len(batch) < MAX_BATCH:
                item = inbox.get(timeout=wait)
                wait = 0.0
                if isinstance(item, Call):
                    batch.append(item)
                elif not item:
                    return False
        return True
