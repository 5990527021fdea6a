"""Runs the parts of an app until a signal: on the main thread, in a second thread, in worker processes.

A child (``--child``) reads the store's URL from stdin, as other users of the machine can read command
lines. The end of stdin tells it to stop. This works on every platform, and also if the parent is killed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import Any

from raincheck.cli.exit_codes import RECYCLED, Exit
from raincheck.cli.terminal import note
from raincheck.core.clock import monotonic

Main = Callable[[asyncio.Event], Awaitable[object]]
"""A coroutine function that runs until its event is set."""

SWITCH_INTERVAL = 0.0005
"""Seconds between thread switches. With the default of 5 ms, store threads wait for a busy event loop."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def run_until_signal(main: Main, *, grace: float, kill: Callable[[], None] = lambda: None) -> int:
    """Run ``main``. The first signal sets its event; the second calls ``kill`` and ends the process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    freeze_startup_objects()

    async def until_signalled() -> None:
        stop = asyncio.Event()
        with _handle_signals(stop, grace, kill):
            await main(stop)

    _run_on_new_loop(until_signalled())
    return Exit.OK


def freeze_startup_objects() -> None:
    """Exclude all objects that exist now from garbage collection: the app and its modules stay anyway."""
    gc.collect()
    gc.freeze()


async def run_in_thread(main: Main, stop: asyncio.Event) -> None:
    """Run ``main`` in its own thread: if its event loop is blocked, the caller's is not."""
    caller = asyncio.get_running_loop()
    ended: asyncio.Future[None] = caller.create_future()
    started: _Started = caller.create_future()

    async def body() -> None:
        thread_stop = asyncio.Event()
        caller.call_soon_threadsafe(started.set_result, (asyncio.get_running_loop(), thread_stop))
        await main(thread_stop)

    def thread() -> None:
        try:
            _run_on_new_loop(body())
        except BaseException as error:  # noqa: BLE001 - the caller raises it again
            caller.call_soon_threadsafe(ended.set_exception, error)
        else:
            caller.call_soon_threadsafe(ended.set_result, None)

    Thread(target=thread, name="raincheck-worker", daemon=True).start()
    stopping = asyncio.create_task(_stop_thread_after(stop, started))
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await _stop_thread(started)
        await ended
        raise
    finally:
        stopping.cancel()


_Started = asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
"""The event loop of a thread, and the event that stops it, once the thread runs."""


async def _stop_thread_after(stop: asyncio.Event, started: _Started) -> None:
    await stop.wait()
    await _stop_thread(started)


async def _stop_thread(started: _Started) -> None:
    loop, thread_stop = await asyncio.shield(started)
    loop.call_soon_threadsafe(thread_stop.set)


def _run_on_new_loop(main: Coroutine[object, object, None]) -> None:
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
def _handle_signals(stop: asyncio.Event, grace: float, kill: Callable[[], None]) -> Iterator[None]:
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
        kill()
        os._exit(Exit.INTERRUPTED)

    previous = {each: signal.signal(each, on_first_signal) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


logger = logging.getLogger("raincheck.cli")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a dead child is replaced. The pause doubles while children die early."""

_EARLY = 60.0
"""A child that dies within this many seconds of its start dies early."""

_MAX_DEATHS = 3
"""Deaths after which a process of a burst is not replaced any more."""

_KILL_AFTER = 5.0
"""Seconds after its grace period at which a child is killed."""


class Children:
    """Processes that run the same command; each reads ``first_line`` from stdin.

    ``grace`` is in seconds. ``pids`` are those of the running processes.
    """

    def __init__(self, command: Sequence[str], first_line: str, grace: float) -> None:
        self._command = command
        self._first_line = first_line
        self._grace = grace
        self.pids: set[int] = set()

    async def run_one(self, stop: asyncio.Event) -> int:
        """Run one process to its end, or until ``stop`` is set and it has stopped; returns its exit code."""
        child = await asyncio.create_subprocess_exec(*self._command, stdin=subprocess.PIPE, **ignore_ctrl_c())
        self.pids.add(child.pid)
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        ended, stopping = asyncio.create_task(child.wait()), asyncio.create_task(stop.wait())
        try:
            child.stdin.write(self._first_line.encode() + b"\n")
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            child.stdin.close()
            await asyncio.wait([ended], timeout=self._grace + _KILL_AFTER)
        finally:
            stopping.cancel()
            if not ended.done():
                child.kill()
            code = await ended
            self.pids.discard(child.pid)
        return code

    def kill(self) -> None:
        """Kill all processes now."""
        for pid in self.pids:
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


class WorkerProcesses:
    """``count`` children that are replaced when they end.

    One that died is replaced after a pause, which grows while processes die early; one that has reached a
    limit at once. In a ``burst``, one that ended because nothing was left to run looks again at times, until
    no other runs.

    ``any_failed`` says whether a process has ended although it was not stopped, and ``is_failing`` whether
    processes kept dying early until the end.
    """

    def __init__(self, children: Children, count: int, *, burst: bool = False) -> None:
        self._children = children
        self._count = count
        self._burst = burst
        self._busy = count
        self.any_failed = False
        self.is_failing = False

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the processes running until ``stop`` is set, then stop them; the end of a burst sets it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one(stop))

    def kill(self) -> None:
        """Kill all processes now."""
        self._children.kill()

    async def _keep_one(self, stop: asyncio.Event) -> None:
        after_death, when_idle = Pause(), Pause()
        while not stop.is_set():
            started_at = monotonic()
            code = await self._children.run_one(stop)
            if monotonic() - started_at > _EARLY:
                after_death, when_idle = Pause(), Pause()
            if stop.is_set() or code == RECYCLED:
                continue
            if code == Exit.OK and self._burst:
                after_death = Pause()
                await self._idle(when_idle, stop)
                continue
            self.any_failed = True
            after_death.count += 1
            if self._burst and after_death.count == _MAX_DEATHS:
                logger.error("a worker process ended with exit code %d, and is not replaced any more", code)
                await self._idle(Pause(math.inf), stop)
                continue
            logger.warning(
                "a worker process ended with exit code %d; a new one starts in %g s",
                *(code, after_death.seconds),
            )
            await after_death.wait(stop)
        self.is_failing |= after_death.count > 1  # one death is not enough

    async def _idle(self, pause: Pause, stop: asyncio.Event) -> None:
        """Pause a process of a burst; the last that does so ends the burst."""
        self._busy -= 1
        if self._busy == 0:
            stop.set()
        await pause.wait(stop)
        self._busy += 1


class Pause:
    """A pause that doubles each time, up to a limit. ``seconds`` is its next length."""

    def __init__(self, seconds: float = _FIRST_PAUSE) -> None:
        self.seconds = seconds
        self.count = 0

    async def wait(self, stop: asyncio.Event) -> None:
        """Pause, or wait until ``stop`` is set."""
        seconds, self.seconds = self.seconds, min(2 * self.seconds, _LONGEST_PAUSE)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), None if seconds == math.inf else seconds)


def ignore_ctrl_c() -> dict[str, Any]:
    """Options that start a process which Ctrl-C does not reach; its parent stops it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def read_first_line() -> str:
    """In the child: read the line that the server wrote to stdin."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode().rstrip("\n")


def call_when_parent_stops(callback: Callable[[], object]) -> None:
    """In the child: call ``callback`` from a thread when the server stops the child, or has died."""

    def read_to_end() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        callback()

    Thread(target=read_to_end, name="raincheck-parent", daemon=True).start()
