"""Runs raincheck as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APP = f"{Path(__file__).with_name('app.py')}:app"
ROOT = Path(__file__).parents[2]
LISTENING = "Listening and serving HTTP on "


class Running:
    """A process. Its output is read line by line; stderr is mixed in."""

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raincheck", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            cwd=cwd,
            env={key: value for key, value in os.environ.items() if not key.startswith("RAINCHECK_")},
        )

    def line(self, text: str) -> str:
        """Wait for a line with this text; returns what follows the text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line.partition(text)[2].strip()
        raise AssertionError(f"the process ended without printing {text!r}:\n{''.join(self.lines)}")

    def rest(self) -> str:
        """All output until the process, and every process that shares its output, has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)


@contextmanager
def running(*arguments: str, cwd: Path | None = None) -> Iterator[Running]:
    """Run raincheck with these arguments, and stop it at the end."""
    process = Running(*arguments, cwd=cwd)
    with process.process:
        try:
            yield process
        finally:
            process.process.terminate()
            try:
                process.process.wait(60)
            except subprocess.TimeoutExpired:
                process.process.kill()


@contextmanager
def serving(folder: Path, *options: str, target: str = APP) -> Iterator[tuple[Running, str]]:
    """Run a server on a free port, its store in ``folder``, with its workers; yields it and its URL."""
    port = [] if "--port" in options else ["--port", "0"]
    with running("serve", target, "--store", store_in(folder), *port, *options) as server:
        url = server.line(LISTENING)
        yield server, url


def store_in(folder: Path) -> str:
    """The URL of a store in a folder."""
    return f"sqlite:///{(folder / 'test.db').as_posix()}"


def raincheck(
    *arguments: str, stdin: str = "", url: str | None = None, timeout: float = 100.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as a process."""
    return subprocess.run(
        [sys.executable, "-m", "raincheck", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
        env=os.environ | ({} if url is None else {"RAINCHECK_URL": url}),
    )
