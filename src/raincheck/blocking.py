"""``App.blocking``: the calls of `Calls` for code that is not async.

A `BlockingApp` runs each coroutine on an event loop in a thread of its own and blocks until it is done.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar, Unpack

from raincheck.calls import Calls
from raincheck.core.model import Step
from raincheck.core.options import JobKeywords
from raincheck.engine.documents import AttemptDocument, JobDocument, JobSummary
from raincheck.engine.engine import Engine
from raincheck.engine.filters import FilterKeywords, Order
from raincheck.engine.groups.documents import RunDocument
from raincheck.engine.validation import Stages

T = TypeVar("T")


class BlockingApp:
    """The methods of `App` with the same names; each blocks until it is done.

    Do not use it in an event loop: await the methods of `App` there. It is safe to use from any thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._calls = Calls(engine)
        self._lock = Lock()
        self._thread: LoopThread | None = None
        self._pid = os.getpid()
        self._inherited: list[object] = []
        """Loops whose threads are in a parent process; freeing one would close it for both."""

    def submit(
        self,
        name: str,
        functions: Stages,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobKeywords],
    ) -> JobDocument:
        """Submit a job; the options are those of `App.submit`."""
        return self._run(self._calls.submit(name, functions, idempotency_key=idempotency_key, **options))

    def trigger(
        self,
        group: str,
        *,
        data: Mapping[str, Any] | None = None,
        args: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunDocument:
        """Start a run of a group, as `App.trigger` does."""
        return self._run(self._calls.trigger(group, data=data, args=args, idempotency_key=idempotency_key))

    def run(self, group: str, run_id: str) -> RunDocument:
        """A run of a group as it is now."""
        return self._run(self._calls.run(group, run_id))

    def status(self, job_id: str) -> JobDocument:
        """The job as it is now."""
        return self._run(self._calls.status(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> JobDocument:
        """The job when it has ended, or as it is after ``timeout`` seconds."""
        return self._run(self._calls.wait(job_id, timeout))

    def call(self, step: Step[T]) -> T:
        """Submit a job of one step and return its result, as `App.call` does."""
        return self._run(self._calls.call(step))

    def cancel(self, job_id: str) -> JobDocument:
        """Cancel a job."""
        return self._run(self._calls.cancel(job_id))

    def retry(self, job_id: str) -> JobDocument:
        """Continue a failed or cancelled job."""
        return self._run(self._calls.retry(job_id))

    def attempts(self, job_id: str) -> list[AttemptDocument]:
        """The attempts of a job that have ended, as `App.attempts` returns them."""
        return self._run(self._calls.attempts(job_id))

    def jobs(self, *, sort: Order = "newest", **filters: Unpack[FilterKeywords]) -> Iterator[JobSummary]:
        """The jobs that match all given filters; they are those of `App.jobs`."""
        return self._iterate(self._calls.jobs(sort=sort, **filters))

    def watch(self, job_id: str) -> Iterator[JobDocument]:
        """The job now, and again after each change, until it has ended."""
        return self._iterate(self._calls.watch(job_id))

    def _iterate(self, values: AsyncGenerator[T, None]) -> Iterator[T]:
        # its loop closes an abandoned generator: waiting for that here could block the garbage collector
        while (value := self._run(_next(values))) is not None:
            yield value

    def close(self) -> None:
        """Close the store and end the thread; the next call opens the store again."""
        self._leave_parent()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.run(self._calls.engine.close())
            thread.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if is_on_a_loop():
            coroutine.close()
            raise RuntimeError("this call would block the event loop: await the method of App instead")
        self._leave_parent()
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread()
            thread = self._thread
        return thread.run(coroutine)

    def _leave_parent(self) -> None:
        """In a forked process, forget the thread: it is in the parent only."""
        if self._pid != os.getpid():
            self._inherited.append(self._thread)
            self._pid, self._lock, self._thread = os.getpid(), Lock(), None


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

        self._thread = Thread(target=asyncio.run, args=(serve(),), name="raincheck-blocking", daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # this thread may have been interrupted
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _next(values: AsyncIterator[T]) -> T | None:
    return await anext(values, None)
