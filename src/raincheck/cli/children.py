"""Worker processes of a server: started, started again when they die, stopped with it.

A child (``--child``) gets its store's URL by its stdin, where no other user of the machine can read
it, and takes the end of stdin as the word to stop: so it ends on every platform, and also if its
parent was killed.
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

from raincheck.clock import monotonic

logger = logging.getLogger("raincheck.cli")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a dead child is followed by another; doubled each time it dies soon."""

_SETTLED = 60.0
"""Seconds after which its death is no sign that the next one will die too."""

_KILL_AFTER = 5.0
"""Seconds over its grace that a child gets before it is killed."""


class Children:
    """``count`` processes that run one command."""

    def __init__(self, command: Sequence[str], first_line: str, count: int, grace: float) -> None:
        self._command = command
        self._first_line = first_line
        self._count = count
        self._grace = grace
        self._pids: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep them running until ``stop`` is set, then stop them."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one(stop))

    def kill(self) -> None:
        """End them now."""
        for pid in self._pids:
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    async def _keep_one(self, stop: asyncio.Event) -> None:
        pause = _FIRST_PAUSE
        while not stop.is_set():
            begun = monotonic()
            code = await self._run_one(stop)
            if stop.is_set():
                return
            pause = _FIRST_PAUSE if monotonic() - begun > _SETTLED else pause
            logger.warning("a worker process ended with exit code %d; another starts in %g s", code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_one(self, stop: asyncio.Event) -> int:
        """Start one, and see it to its end; its exit code."""
        child = await asyncio.create_subprocess_exec(*self._command, stdin=subprocess.PIPE, **out_of_reach())
        self._pids.add(child.pid)
        assert child.stdin is not None  # noqa: S101 - it was asked for
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


def out_of_reach() -> dict[str, Any]:
    """How to start a process that the terminal's Ctrl-C does not reach: its parent handles that."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def first_line() -> str:
    """In the child: what the server wrote to it."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode().rstrip("\n")


def when_the_parent_stops(tell: Callable[[], object]) -> None:
    """In the child: call ``tell``, from a thread, when the server wants it to stop or is gone."""

    def listen() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        tell()

    Thread(target=listen, name="raincheck-parent", daemon=True).start()
