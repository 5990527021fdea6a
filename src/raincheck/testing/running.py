"""`running`: an app in a test, with ``async with`` or ``with``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from raincheck.app import App
from raincheck.blocking import LoopThread, is_on_a_loop
from raincheck.engine.documents import JobDocument
from raincheck.store import IN_MEMORY
from raincheck.testing.clock import Clock
from raincheck.testing.worker import ManualWorker, in_this_process
from raincheck.worker.injector import injecting

T = TypeVar("T")


def running(
    app: App, *, clock: Clock | None = None, store: str = IN_MEMORY, processes: bool = False
) -> Running:
    """Open an app in a test: ``async with running(app) as worker``, or ``with`` in a test that is not async.

    The app has the store ``store`` (default: one in memory, gone at the end) and the time of ``clock``
    (default: one that stands still now) until the end of the block. The lifespan of the app is entered. Sync
    and ``process=True`` functions run in a thread of the test's process; with ``processes=True``, the latter
    run in a child process. Raises `ValueError` for a store other than SQLite, whose clock is not the test's.
    """
    if not store.startswith("sqlite:"):
        raise ValueError(f"a test needs a SQLite store, because others have their own clock (got {store!r})")
    return Running(lambda: _worker(app, clock or Clock(), store, processes))


class Running:
    """What `running` returns: a context manager of both kinds."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[ManualWorker]]) -> None:
        self._make = make
        self._manager: AbstractAsyncContextManager[ManualWorker] | None = None
        self._blocking: BlockingManualWorker | None = None

    async def __aenter__(self) -> ManualWorker:
        self._manager = self._make()
        return await self._manager.__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        if self._manager is not None:
            await self._manager.__aexit__(None, None, None)

    def __enter__(self) -> BlockingManualWorker:
        if is_on_a_loop():
            raise RuntimeError(
                "this would block the event loop: in an async test, use async with running(app)"
            )
        self._blocking = BlockingManualWorker(self._make())
        return self._blocking

    def __exit__(self, *exc_info: object) -> None:
        if self._blocking is not None:
            self._blocking.close()


@asynccontextmanager
async def _worker(app: App, clock: Clock, store: str, processes: bool) -> AsyncIterator[ManualWorker]:
    engine = app.engine
    if engine.opened:
        raise RuntimeError("the app is open: running() opens it with a store of its own, so close it before")
    before = engine.url, engine.now
    engine.url, engine.now = store, clock
    async with AsyncExitStack() as stack:
        stack.callback(_restore, app, *before)
        await stack.enter_async_context(app)
        functions = app.functions if processes else in_this_process(app.functions)
        injector = await stack.enter_async_context(injecting(app, functions))
        worker = ManualWorker(app, clock, functions, injector)
        stack.push_async_callback(worker.stop)
        await worker.start()
        yield worker


def _restore(app: App, url: str, now: Callable[[], float]) -> None:
    app.engine.url, app.engine.now = url, now


class BlockingManualWorker:
    """The methods of `ManualWorker` for a test that is not async; each blocks until it is done."""

    def __init__(self, manager: AbstractAsyncContextManager[ManualWorker]) -> None:
        self._thread = LoopThread()
        entered: Future[ManualWorker] = Future()
        left: Future[None] = Future()

        async def hold() -> None:  # one task enters and leaves: a lifespan may need that
            try:
                async with manager as worker:
                    entered.set_result(worker)
                    await asyncio.wrap_future(left)
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        self._left = left
        self._held = self._thread.start(hold())
        try:
            self._worker = entered.result()
        except BaseException:
            self._thread.close()
            raise
        self.app = self._worker.app
        self.clock = self._worker.clock

    def drain(self, *, raise_errors: bool = True) -> int:
        """Run steps until none is ready, as `ManualWorker.drain` does."""
        __tracebackhide__ = True
        return self._run(self._worker.drain(raise_errors=raise_errors))

    def run_for(self, by: float | timedelta, *, raise_errors: bool = True) -> int:
        """Let ``by`` seconds pass and run what becomes ready, as `ManualWorker.run_for` does."""
        __tracebackhide__ = True
        return self._run(self._worker.run_for(by, raise_errors=raise_errors))

    def jobs(self, *, name: str | None = None, function: str | None = None) -> list[JobDocument]:
        """The jobs, oldest first, as `ManualWorker.jobs` returns them."""
        return self._run(self._worker.jobs(name=name, function=function))

    def until(self, call: Callable[[], T]) -> T:
        """Run what becomes ready until ``call``, which is called in a thread, returns. Returns its result."""
        __tracebackhide__ = True
        return self._run(self._worker.until(asyncio.to_thread(call)))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        __tracebackhide__ = True
        future = self._thread.start(coroutine)
        try:
            error = future.exception()
        except BaseException:
            future.cancel()  # this thread was interrupted
            raise
        if error is not None:
            raise error  # here, where pytest shows no frame of ours
        return future.result()

    def close(self) -> None:
        """Close the app, and its blocking calls."""
        self._left.set_result(None)
        try:
            self._held.result()
        finally:
            self._thread.close()
            self.app.blocking.close()
