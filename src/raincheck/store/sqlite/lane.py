"""A thread that owns a connection and serves requests in batches.

Whatever has come in while the last batch was served is the next one, so that under load many
callers share one transaction (group commit), and an idle store answers at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from raincheck.errors import StoreUnavailable
from raincheck.store.signals import call_into


class Request:
    """A call waiting for its answer, made from a loop (``loop``) or from a thread (None).

    ``abandoned`` is called with the answer if nobody waits for it any more.
    """

    __slots__ = ("abandoned", "call", "future", "loop")

    def __init__(
        self, call: Any, abandoned: Callable[[Any], None] | None = None, *, threaded: bool = False
    ) -> None:
        self.call = call
        self.abandoned = abandoned
        self.loop = None if threaded else asyncio.get_running_loop()
        self.future: Any = concurrent.futures.Future() if self.loop is None else self.loop.create_future()


class Answers:
    """Answers gathered during a batch, to be given only once it is committed."""

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop | None, list[tuple[Request, Any]]] = {}

    def add(self, request: Request, answer: Any) -> None:
        """Give ``answer`` (an exception is raised) once the batch is through."""
        self._loops.setdefault(request.loop, []).append((request, answer))

    def give(self) -> None:
        """Give them all: one call into each loop."""
        for loop, answers in self._loops.items():
            if loop is None:
                _settle(answers)
            else:
                call_into(loop, _settle, answers)
        self._loops.clear()

    def drop(self) -> None:
        """Forget them: the batch was rolled back."""
        self._loops.clear()


def _settle(answers: list[tuple[Request, Any]]) -> None:
    for request, answer in answers:
        if request.future.done():
            if request.abandoned is not None and not isinstance(answer, BaseException):
                request.abandoned(answer)
        elif isinstance(answer, BaseException):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)


class Lane(Thread):
    """The thread. ``serve`` takes a batch of requests; ``patience`` says how long to wait for one.

    ``serve`` is also called with an empty batch when patience ends.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[list[Request]], None],
        patience: Callable[[], float | None] = lambda: None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()
        self._serve = serve
        self._patience = patience
        self._closed = False

    def put(self, request: Request | None) -> None:
        """Add a request; None wakes the lane for nothing."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        self._inbox.put(request)

    async def ask(self, call: Any, abandoned: Callable[[Any], None] | None = None) -> Any:
        """Put a call and wait for its answer."""
        request = Request(call, abandoned)
        self.put(request)
        return await request.future

    def close(self) -> None:
        """Serve what is there, then end; what comes later fails."""
        self._closed = True
        self._inbox.put(None)

    def run(self) -> None:
        while True:
            batch = self._gather()
            self._serve(batch)
            if self._closed and self._inbox.empty():
                return

    def _gather(self) -> list[Request]:
        batch: list[Request] = []
        with suppress(Empty):
            request = self._inbox.get(timeout=self._patience())
            while True:
                if request is not None:
                    batch.append(request)
                request = self._inbox.get_nowait()
        return batch
