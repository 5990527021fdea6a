"""Worker processes of a server: started, restarted when they die, and stopped with the server.

A child (``--child``) reads the store's URL from stdin, as other users of the machine can read command
lines. The end of stdin tells it to stop. This works on every platform, and also if the parent is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

from raincheck.core.clock import monotonic

logger = logging.getLogger("raincheck.cli")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a dead child is replaced. The pause doubles while children die early."""

_EARLY = 60.0
"""A child that dies within this many seconds of its start dies early."""

_KILL_AFTER = 5.0
"""Seconds after its grace period at which a child is killed."""


class Children:
    """``count`` processes that run the same command. ``grace`` is in seconds."""

    def __init__(self, command: Sequence[str], first_line: str, count: int, grace: float) -> None:
        self._command = command
        self._first_line = first_line
        self._count = count
        self._grace = grace
        self._pids: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the processes running until ``stop`` is set, then stop them."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one(stop))

    def kill(self) -> None:
        """Kill all processes now."""
        for pid in self._pids:
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    async def _keep_one(self, stop: asyncio.Event) -> None:
        pause = _FIRST_PAUSE
        while not stop.is_set():
            started_at = monotonic()
            code = await self._run_one(stop)
            if stop.is_set():
                return
            pause = _FIRST_PAUSE if monotonic() - started_at > _EARLY else pause
            logger.warning("a worker process ended with exit code %d; a new one starts in %g s", code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_one(self, stop: asyncio.Event) -> int:
        """Start one process and wait for its end; returns its exit code."""
        child = await asyncio.create_subprocess_exec(*self._command, stdin=subprocess.PIPE, **ignore_ctrl_c())
        self._pids.add(child.pid)
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
            self._pids.discard(child.pid)
        return code


def ignore_ctrl_c() -> dict[str, Any]:
    """Options that start a process which Ctrl-C does not reach; its parent stops it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def first_line() -> str:
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
