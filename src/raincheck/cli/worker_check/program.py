"""The worker program that is checked, as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from tempfile import TemporaryFile
from typing import IO

from raincheck.cli.exit_codes import UsageError
from raincheck.cli.runner import ignore_ctrl_c

_LINES = 10
"""Last lines of its output that are shown."""

_TAIL = 10_000
"""Bytes at the end of the output that are searched for these lines."""


class Program:
    """A process; ``ended`` is the task that waits for its exit code."""

    def __init__(self, process: asyncio.subprocess.Process, output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self.ended = asyncio.create_task(process.wait())

    @property
    def output(self) -> list[str]:
        """The last lines that it printed."""
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(end - _TAIL, 0))
        return self._output.read().decode("utf-8", "replace").splitlines()[-_LINES:]

    def terminate(self) -> None:
        """Send SIGTERM to the process, as a supervisor that stops it."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def kill(self) -> None:
        """Kill the process and its children that are left."""
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        await self.ended


@asynccontextmanager
async def running(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run the command until the context ends. Raises `UsageError`."""
    with TemporaryFile() as output:  # no pipe: a child that outlives the process would keep it open
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                **ignore_ctrl_c(),
            )
        except OSError as error:
            raise UsageError(f"cannot run {command[0]}: {error.strerror}") from None
        program = Program(process, output)
        try:
            yield program
        finally:
            await program.kill()
