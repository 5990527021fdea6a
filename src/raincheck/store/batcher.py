"""A thread that owns a connection and serves calls in batches.

All calls that come in while one batch is served make the next one: under load many callers share one
transaction (group commit), and an idle store answers at once.
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
"""Calls served together: the first of very many must not wait for the last."""


class Call(Generic[T]):
    """A call that waits for its answer, made from the running loop or (``threaded``) from a thread."""

    def __init__(self, *, threaded: bool = False) -> None:
        self.loop = None if threaded else asyncio.get_running_loop()
        self.future: Any = concurrent.futures.Future() if self.loop is None else self.loop.create_future()
        self.posted: list[T | BaseException] = []
        """The answer on its way to the loop, which may end before it is there."""

    def settle(self, answer: T | BaseException) -> None:
        """Give the answer; an exception is raised. Called on the loop, or from any thread."""
        if self.future.done() or (self.loop is not None and self.loop.is_closed()):
            if not isinstance(answer, BaseException):
                self.abandoned(answer)
        elif isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)

    def give_up(self) -> None:
        """The caller has gone: an answer that came in the same moment is lost on it."""
        if self.future.cancel() or self.future.cancelled():
            for answer in self.posted:
                if not isinstance(answer, BaseException):
                    self.abandoned(answer)
        elif self.future.exception() is None:
            self.abandoned(self.future.result())

    def abandoned(self, answer: T) -> None:
        """Nobody waits for this answer any more."""


class Answers:
    """Answers gathered during a batch, to be given only once it is committed."""

    def __init__(self) -> None:
        self._answers: list[tuple[Call[Any], Any]] = []

    def add(self, call: Call[T], answer: T | BaseException) -> None:
        """Give ``answer`` once the batch is through."""
        self._answers.append((call, answer))

    def give(self) -> None:
        """Give them all: one call into each loop."""
        loops: dict[asyncio.AbstractEventLoop | None, list[tuple[Call[Any], Any]]] = {}
        for call, answer in self._answers:
            call.posted.append(answer)  # before it is looked whether it gave up: one of the two will see
            loop = None if call.future.cancelled() else call.loop  # one that gave up may be ending
            loops.setdefault(loop, []).append((call, answer))
        for loop, answers in loops.items():
            if loop is None or not call_into(loop, _settle, answers):
                _settle(answers)


def _settle(answers: list[tuple[Call[Any], Any]]) -> None:
    for call, answer in answers:
        call.settle(answer)


def fail(calls: Iterable[Call[Any]], error: Exception) -> None:
    """Give an error to those of ``calls`` that have no answer yet."""
    answers = Answers()
    for call in calls:
        answers.add(call, error)
    answers.give()


class Batcher:
    """The thread. ``serve`` takes a batch of calls, at times an empty one.

    ``patience`` says how long to wait for one; ``end`` is called on the thread when all is served.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[list[Call[Any]]], None],
        end: Callable[[], None],
        patience: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._name = name
        self._serve = serve
        self._end = end
        self._patience = patience
        self._lock = Lock()
        self._thread: Thread | None = None
        self._inbox: SimpleQueue[Call[Any] | bool] = SimpleQueue()

    @property
    def running(self) -> bool:
        """Whether it takes calls."""
        return self._thread is not None

    def start(self) -> None:
        """Serve from now on."""
        with self._lock:
            self._inbox = SimpleQueue()
            self._thread = Thread(target=self._run, args=(self._inbox,), name=self._name, daemon=True)
            self._thread.start()

    def put(self, call: Call[Any]) -> None:
        """Add a call."""
        with self._lock:  # so that nothing comes after the word to end
            if self._thread is None or not self._thread.is_alive():  # there are no threads after a fork
                raise StoreUnavailable("the store is not open")
            self._inbox.put(call)

    async def ask(self, call: Call[T]) -> T:
        """Put a call and wait for its answer."""
        self.put(call)
        try:
            answer: T = await call.future
        except asyncio.CancelledError:
            call.give_up()
            raise
        return answer

    def wake(self) -> None:
        """Let it look round, though there is no call."""
        self._inbox.put(True)

    def close(self) -> None:
        """Serve what is there, then end; what comes later fails."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._inbox.put(False)
        if thread is not None:
            thread.join()

    def _run(self, inbox: SimpleQueue[Call[Any] | bool]) -> None:
        going = True
        while going:
            batch: list[Call[Any]] = []
            going = self._gather(inbox, batch)
            try:
                if batch or going:
                    self._serve(batch)
            except Exception as error:  # noqa: BLE001 - the batcher goes on, and the callers are told
                fail(batch, error)
        self._end()

    def _gather(self, inbox: SimpleQueue[Call[Any] | bool], batch: list[Call[Any]]) -> bool:
        """Fill the batch with what is there, or comes in time. False: that was the last."""
        wait = self._patience()
        with suppress(Empty):
            while len(batch) < MAX_BATCH:
                item = inbox.get(timeout=wait)
                wait = 0.0
                if isinstance(item, Call):
                    batch.append(item)
                elif not item:
                    return False
        return True
