"""The App for code that is not async: the same calls, run on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar, Unpack

from raincheck.calls import Calls
from raincheck.core.model import Step
from raincheck.core.options import JobKeywords
from raincheck.engine.documents import JobDocument
from raincheck.engine.engine import Engine
from raincheck.engine.groups.documents import RunDocument
from raincheck.engine.validation import Stages

T = TypeVar("T")


class BlockingApp:
    """Each method does what the one of the same name does in `App`, and blocks until it is done.

    Not for use within an event loop: there, await the methods of `App`. Safe to use from any thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._calls = Calls(engine)
        self._lock = Lock()
        self._host: _Host | None = None

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
        """The job once it has ended, or as it is after ``timeout`` seconds."""
        return self._run(self._calls.wait(job_id, timeout))

    def call(self, step: Step) -> Any:
        """Submit a job of one step and return its result."""
        return self._run(self._calls.call(step))

    def cancel(self, job_id: str) -> JobDocument:
        """Stop a job."""
        return self._run(self._calls.cancel(job_id))

    def retry(self, job_id: str) -> JobDocument:
        """Let a failed or cancelled job go on."""
        return self._run(self._calls.retry(job_id))

    def watch(self, job_id: str) -> Iterator[JobDocument]:
        """The job, again and again until it has ended."""
        documents = self._calls.watch(job_id)
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
            host.run(self._calls.engine.close())
            host.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if _on_a_loop():
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


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _next(documents: AsyncIterator[JobDocument]) -> JobDocument | None:
    return await anext(documents, None)
