"""Load on an HTTP server: from wrk if it is installed, else from a generator in Python.

The generator in Python uses CPU time that the server needs.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.processes import ChildError

CONNECTIONS = 32
INSTALL = "wrk is not installed (Debian, Ubuntu: apt install wrk; macOS: brew install wrk)"
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """The result of a load."""

    rate: float
    """Requests per second with a 2xx response."""
    p99: float
    """The 99th percentile of the response time in milliseconds."""
    answered: int


def generator() -> str:
    """The name of the generator."""
    return "wrk" if shutil.which("wrk") else "the Python generator"


def put_on(bench: Bench, url: str, seconds: float, body: bytes | None = None) -> Load:
    """Send GET requests, or POST requests with JSON, over 32 connections, one at a time on each."""
    if wrk := shutil.which("wrk"):
        return _wrk(wrk, bench.fresh() / "request.lua", url, seconds, body)
    return Load(*bench.call(generate, url=url, seconds=seconds, body=body and body.decode()))


def _wrk(wrk: str, script: Path, url: str, seconds: float, body: bytes | None) -> Load:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--latency", url]
    if body is not None:
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = [==[{body.decode()}]==]\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        command[1:1] = ["-s", str(script)]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    output = completed.stdout
    if completed.returncode or "Non-2xx" in output or "Socket errors" in output:
        raise ChildError(f"wrk reports errors:\n{output}{completed.stderr}")
    return Load(
        float(_find(r"Requests/sec:\s+([\d.]+)", output)[1]),
        float((match := _find(r"99%\s+([\d.]+)(us|ms|s|m)\b", output))[1]) * _UNITS[match[2]],
        int(_find(r"(\d+) requests in", output)[1]),
    )


def _find(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise ChildError(f"cannot read the output of wrk:\n{text}")
    return match


async def generate(url: str, seconds: float, body: str | None) -> tuple[float, float, int]:
    """In a child process: create the load without wrk."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        async with Caller(url, body) as calling:
            while (sent := time.perf_counter()) < until:
                await calling()
                took.append(time.perf_counter() - sent)

    started_at = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return len(took) / (time.perf_counter() - started_at), quantiles(took, n=100)[98] * 1000, len(took)


class Caller:
    """One connection that repeats the same request. It supports only the HTTP that this needs."""

    def __init__(self, url: str, body: str | None, **headers: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        lines = [f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = ("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode()

    async def __aenter__(self) -> Caller:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._writer.close()

    async def __call__(self) -> bytes:
        """Send the request; returns the body of the response. Raises `ChildError` if it is not 2xx."""
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"http/1.1 2"):
            raise ChildError(f"{head.decode()}{body.decode()}")
        return body
