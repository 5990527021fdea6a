"""raincheck as a process: started, read line by line, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx2

APP = f"{Path(__file__).with_name('app.py')}:app"
ROOT = Path(__file__).parents[2]
LISTENING = "Listening and serving HTTP on "


class Running:
    """A process whose output is read as it comes; stderr is mixed in."""

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        self.seen: list[str] = []
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

    def line(self, words: str) -> str:
        """Wait for a line with these words; what follows them."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if words in line:
                return line.partition(words)[2].strip()
        raise AssertionError(f"it ended without {words!r}:\n{''.join(self.seen)}")

    def rest(self) -> str:
        """All that it prints until it, and whoever shares its output, has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


@contextmanager
def running(*arguments: str, cwd: Path | None = None) -> Iterator[Running]:
    """raincheck with these arguments; it is gone at the end."""
    made = Running(*arguments, cwd=cwd)
    with made.process:
        try:
            yield made
        finally:
            made.process.terminate()
            try:
                made.process.wait(60)
            except subprocess.TimeoutExpired:
                made.process.kill()


@contextmanager
def serving(folder: Path, *options: str, target: str = APP) -> Iterator[tuple[Running, str]]:
    """A server on a free port, and workers that are there, their store in ``folder``; and its URL."""
    port = [] if "--port" in options else ["--port", "0"]
    with running("serve", target, "--store", store_in(folder), *port, *options) as server:
        url = server.line(LISTENING)
        while (answer := httpx2.get(f"{url}/v1/worker")).status_code == 200 and not answer.json():
            sleep(0.01)  # who has to sign in is told nothing of workers
        yield server, url


def store_in(folder: Path) -> str:
    """The URL of a store in a folder."""
    return f"sqlite:///{(folder / 'test.db').as_posix()}"


def raincheck(*arguments: str, stdin: str = "", url: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, as a process."""
    return subprocess.run(
        [sys.executable, "-m", "raincheck", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
        env=os.environ | ({} if url is None else {"RAINCHECK_URL": url}),
    )
