"""The App for code that is not async: the same calls, run on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from raincheck.documents import JobDocument
from raincheck.groups.documents import RunDocument
from raincheck.model import Step
from raincheck.submission import Stages

if TYPE_CHECKING:
    from raincheck.app import App

T = TypeVar("T")


class BlockingApp:
    """Each method does what the one of the same name does in `App`, and blocks until it is done.

    Not for use within an event loop: there, await the methods of `App`. Safe to use from any thread.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = Lock()
        self._host: _Host | None = None

    def submit(self, name: str, functions: Stages, **options: Any) -> JobDocument:
        """Submit a job; the options are those of `App.submit`."""
        return self._run(self._app.submit(name, functions, **options))

    def trigger(self, group: str, **options: Any) -> RunDocument:
        """Start a run of a group; the options are those of `App.trigger`."""
        return self._run(self._app.trigger(group, **options))

    def run(self, group: str, run_id: str) -> RunDocument:
        """A run of a group as it is now."""
        return self._run(self._app.run(group, run_id))

    def status(self, job_id: str) -> JobDocument:
        """The job as it is now."""
        return self._run(self._app.status(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> JobDocument:
        """The job once it has ended, or as it is after ``timeout`` seconds."""
        return self._run(self._app.wait(job_id, timeout))

    def call(self, step: Step) -> Any:
        """Submit a job of one step and return its result."""
        return self._run(self._app.call(step))

    def cancel(self, job_id: str) -> JobDocument:
        """Stop a job."""
        return self._run(self._app.cancel(job_id))

    def retry(self, job_id: str) -> JobDocument:
        """Let a failed or cancelled job go on."""
        return self._run(self._app.retry(job_id))

    def watch(self, job_id: str) -> Iterator[JobDocument]:
        """The job, again and again until it has ended."""
        documents = self._app.watch(job_id)
        try:
            while (document := self._run(_next(documents))) is not None:
                yield document
        finally:
            self._run(documents.aclose())

    def close(self) -> None:
        """Close the store and end the thread; the next call opens it anew."""
        with self._lock:
            host, self._host = self._host, None
        if host is not None:
            host.run(self._app.close())
            host.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise RuntimeError("this would block the event loop: await the method of App instead")
        with self._lock:
            if self._host is None:
                self._host = _Host()
            host = self._host
        return host.run(coroutine)


class _Host:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

        self._thread = Thread(target=asyncio.run, args=(serve(),), name="raincheck-blocking", daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # should this thread have been interrupted
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


async def _next(documents: AsyncIterator[JobDocument]) -> JobDocument | None:
    return await anext(documents, None)
