"""Commands of raincheck as processes that are killed and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

LISTENING = "Listening and serving HTTP on "


class Command:
    """``raincheck ...`` as a process. Its output is kept, to show it if a test fails."""

    module = "raincheck"
    listening = LISTENING
    folder: Path | None = None

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._arguments = arguments
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._url: asyncio.Future[str] | None = None
        self.printed: list[str] = []

    def words(self) -> tuple[str, ...]:
        """The command line."""
        return (sys.executable, "-m", self.module, *self._arguments)

    async def start(self) -> None:
        """Start or restart it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAINCHECK_")}
        self._process = await asyncio.create_subprocess_exec(
            *self.words(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.folder,
            env=inherited | self._environment,
        )
        if self._url is None or self._url.done():  # else it was killed before it printed the URL
            self._url = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    async def _read(self, output: asyncio.StreamReader | None) -> None:
        assert output is not None
        async for line in output:
            text = line.decode()
            self.printed.append(text)
            if text.startswith(self.listening) and self._url is not None:
                self._url.set_result(text.removeprefix(self.listening).split()[0])

    async def url(self) -> str:
        """Wait for the URL of the server that was started last."""
        assert self._url is not None
        return await asyncio.shield(self._url)

    async def kill(self) -> None:
        """Kill it without a warning."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Stop it; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended; returns its exit code."""
        assert self._process is not None
        assert self._reading is not None
        code = await self._process.wait()
        await self._reading
        return code

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None


class Site(Command):
    """``uvicorn ...`` as a process in a folder, with an ASGI application on a free port."""

    module = "uvicorn"
    listening = "INFO:     Uvicorn running on "

    def __init__(self, application: str, app_dir: Path, folder: Path, **environment: str) -> None:
        super().__init__(application, "--app-dir", str(app_dir), "--port", "0", **environment)
        self.folder = folder


@asynccontextmanager
async def running(*commands: Command) -> AsyncIterator[None]:
    """Run the commands; all of them are killed at the end."""
    try:
        for command in commands:
            await command.start()
        yield
    finally:
        for command in commands:
            if command.running:
                await command.kill()
