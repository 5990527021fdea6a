"""HTTP servers as child processes, and the check that they are ready."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, raincheck
from benchmarks.processes import Child

FUNCTIONS = "benchmarks.programs.functions:app"


def server_command(url: str, port: int, kind: str = "server") -> list[str]:
    """``raincheck server`` (the API alone), or ``raincheck serve`` (with a worker in the same process)."""
    return raincheck(kind, FUNCTIONS, "--store", url, "--port", str(port), "--log-level", "warning")


def echo_command(name: str, port: int) -> list[str]:
    """A bare server of ``programs.echo``."""
    return [sys.executable, "-m", "benchmarks.programs.echo", name, str(port)]


@contextmanager
def serving(bench: Bench, command: list[str], port: int) -> Iterator[Child]:
    """Run a server; the block starts when it is ready."""
    with bench.start(command) as child:
        child.until(lambda: is_ready(port))
        yield child


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def is_ready(port: int) -> bool:
    """Whether ``GET /readyz`` returns 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
