"""The App for code that is not async: the same calls, run on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from raincheck.documents import JobDocument
from raincheck.model import Step
from raincheck.submission import Stages

if TYPE_CHECKING:
    from raincheck.app import App

T = TypeVar("T")


class BlockingApp:
    """Each method does what the one of the same name does in `App`, and blocks until it is done.

    Not for use within an event loop: there, await the methods of `App`.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, name: str, functions: Stages, **options: Any) -> JobDocument:
        """Submit a job; the options are those of `App.submit`."""
        return self._run(self._app.submit(name, functions, **options))

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
        while True:
            try:
                yield self._run(anext(documents))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """Close the store and end the thread."""
        self._run(self._app.close())
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                Thread(target=self._loop.run_forever, name="raincheck-blocking", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
