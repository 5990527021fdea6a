"""Runs a coroutine until a signal stops it, on the main thread or in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from raincheck.cli.exit_codes import Exit
from raincheck.cli.terminal import note

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A coroutine function that runs until its event is set."""

SWITCH_INTERVAL = 0.0005
"""Seconds between thread switches. With the default of 5 ms, store threads wait for a busy event loop."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def run(main: Main, *, grace: float, at_once: Callable[[], None] = lambda: None) -> int:
    """Run ``main``. The first signal sets its event; the second calls ``at_once`` and ends the process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    settle()

    async def until_signalled() -> None:
        stop = asyncio.Event()
        with _handle_signals(stop, grace, at_once):
            await main(stop)

    _run(until_signalled())
    return Exit.OK


def settle() -> None:
    """Exclude all objects that exist now from garbage collection: the app and its modules stay anyway."""
    gc.collect()
    gc.freeze()


async def in_thread(main: Main, stop: asyncio.Event) -> None:
    """Run ``main`` in its own thread: if its event loop is blocked, the caller's is not."""
    caller = asyncio.get_running_loop()
    ended: asyncio.Future[None] = caller.create_future()
    started: asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = caller.create_future()

    async def body() -> None:
        thread_stop = asyncio.Event()
        caller.call_soon_threadsafe(started.set_result, (asyncio.get_running_loop(), thread_stop))
        await main(thread_stop)

    def thread() -> None:
        try:
            _run(body())
        except BaseException as error:  # noqa: BLE001 - the caller raises it again
            caller.call_soon_threadsafe(ended.set_exception, error)
        else:
            caller.call_soon_threadsafe(ended.set_result, None)

    Thread(target=thread, name="raincheck-worker", daemon=True).start()
    loop, thread_stop = await started
    stopping = asyncio.create_task(_set_when_stopped(stop, loop, thread_stop))
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        loop.call_soon_threadsafe(thread_stop.set)
        await ended
        raise
    finally:
        stopping.cancel()


async def _set_when_stopped(
    stop: asyncio.Event, loop: asyncio.AbstractEventLoop, thread_stop: asyncio.Event
) -> None:
    await stop.wait()
    loop.call_soon_threadsafe(thread_stop.set)


def _run(main: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop if it is installed; None for the default of asyncio."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def _handle_signals(stop: asyncio.Event, grace: float, at_once: Callable[[], None]) -> Iterator[None]:
    """Handle signals. Uses `signal.signal`, which works on every platform and with every event loop."""
    loop = asyncio.get_running_loop()

    def begin_stop() -> None:
        stop.set()
        note(
            f"Stopping. Running attempts have {grace:g} s to finish. Press Ctrl-C again to stop now."
            if grace
            else "Stopping."
        )

    def on_first_signal(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, on_second_signal)
        loop.call_soon_threadsafe(begin_stop)

    def on_second_signal(number: int, frame: FrameType | None) -> None:
        at_once()
        os._exit(Exit.INTERRUPTED)

    previous = {each: signal.signal(each, on_first_signal) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
