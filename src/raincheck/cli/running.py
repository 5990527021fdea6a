"""Running until told to stop: the loop, the signals, and a thread for what may block its loop."""

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

from raincheck.cli.exits import Exit
from raincheck.cli.terminal import note

Main = Callable[[asyncio.Event], Awaitable[None]]
"""What runs until the event is set, and then comes to its end."""

SWITCH_INTERVAL = 0.0005
"""Seconds a thread keeps the interpreter: the store's threads would wait 5 ms beside a busy loop."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def run(main: Main, *, grace: float, at_once: Callable[[], None] = lambda: None) -> int:
    """Run ``main`` on a loop; a signal sets its event, a second one ends the process, after ``at_once``."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    settle()

    async def until_signalled() -> None:
        stop = asyncio.Event()
        with _signals(stop, grace, at_once):
            await main(stop)

    _run(until_signalled())
    return Exit.OK


def settle() -> None:
    """What start-up has left stays: spare every collection to come from looking at it again."""
    gc.collect()
    gc.freeze()


async def in_thread(main: Main, stop: asyncio.Event) -> None:
    """Run ``main`` on a loop in a thread of its own, so that blocking it blocks no other."""
    here = asyncio.get_running_loop()
    ended: asyncio.Future[None] = here.create_future()
    there: asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = here.create_future()

    async def body() -> None:
        its_stop = asyncio.Event()
        here.call_soon_threadsafe(there.set_result, (asyncio.get_running_loop(), its_stop))
        await main(its_stop)

    def thread() -> None:
        try:
            _run(body())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
            here.call_soon_threadsafe(ended.set_exception, error)
        else:
            here.call_soon_threadsafe(ended.set_result, None)

    Thread(target=thread, name="raincheck-worker", daemon=True).start()
    loop, its_stop = await there
    stopping = asyncio.create_task(_set_when_stopped(stop, loop, its_stop))
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        loop.call_soon_threadsafe(its_stop.set)
        await ended
        raise
    finally:
        stopping.cancel()


async def _set_when_stopped(
    stop: asyncio.Event, loop: asyncio.AbstractEventLoop, its_stop: asyncio.Event
) -> None:
    await stop.wait()
    loop.call_soon_threadsafe(its_stop.set)


def _run(main: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one; None: the loop that asyncio chooses."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def _signals(stop: asyncio.Event, grace: float, at_once: Callable[[], None]) -> Iterator[None]:
    """Handle signals. Plain `signal.signal`: it is the one way that every platform and loop has."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop.set()
        note(
            f"Stopping; what runs gets {grace:g} s to end. Ctrl-C again stops at once."
            if grace
            else "Stopping."
        )

    def handle(number: int, frame: FrameType | None) -> None:
        for known in _SIGNALS:
            signal.signal(known, second)
        loop.call_soon_threadsafe(first)

    def second(number: int, frame: FrameType | None) -> None:
        at_once()
        os._exit(Exit.INTERRUPTED)

    before = {known: signal.signal(known, handle) for known in _SIGNALS}
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
