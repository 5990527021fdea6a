"""Measures what idle workers over HTTP cost one server: ``python -m benchmarks.idle_workers``.

Each worker has a connection and a claim that waits for 20 s, then claims again. For each number of workers:
the CPU time and the memory of the server while nothing happens, and the time from the submission of a job
until a worker has its attempt, for jobs one after the other. Needs Linux: it reads ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

COUNTS = (0, 100, 1000)

WAIT = 20.0
"""Seconds that a claim waits."""

JOBS = 100
TICK = os.sysconf("SC_CLK_TCK")
PARAMETERS = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}


class Connection:
    """A connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Any, token: str = "") -> Any:
        """The response to a request."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Worker-Token: {token}\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        headers = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(headers.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        return json.loads(await reader.readexactly(length) or b"null")

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()


class Workers:
    """Workers that wait for attempts and finish them; each has two of ``functions`` functions."""

    def __init__(self, port: int, functions: int) -> None:
        self._port = port
        self.names = [f"function-{n}" for n in range(functions)]
        self._begun: dict[str, asyncio.Future[float]] = {}
        self.claims = 0

    def begun(self, job: str) -> asyncio.Future[float]:
        """When a worker gets the attempt of a job."""
        return self._begun.setdefault(job, asyncio.get_running_loop().create_future())

    async def work(self, number: int, registered: asyncio.Semaphore) -> None:
        """Register, then claim and finish until cancelled."""
        connection = Connection(self._port)
        try:
            names = {self.names[(number + i) % len(self.names)] for i in range(2)}
            functions = [{"name": name, "parameters": PARAMETERS} for name in names]
            body = {"name": f"worker-{number}", "functions": functions}
            registration = await connection.post("/v1/worker", body)
            registered.release()
            path, token = f"/v1/worker/{registration['id']}", registration["token"]
            while True:
                self.claims += 1
                claimed = await connection.post(f"{path}/claim", {"wait": WAIT}, token)
                for attempt in claimed["attempts"]:
                    self.begun(attempt["job"]).set_result(time.perf_counter())
                    ended = {"id": attempt["id"], "result": 1}
                    await connection.post(f"{path}/finish", {"attempts": [ended]}, token)
        finally:
            connection.close()


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> float:
    """The memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@asynccontextmanager
async def server(folder: Path, store: str | None) -> AsyncIterator[tuple[int, int]]:
    """The process id and the port of a server."""
    (folder / "app.py").write_text("from raincheck import App\n\napp = App()\n")
    url = store or f"sqlite:///{folder / 'jobs.db'}"
    command = ("-m", "raincheck", "server", str(folder / "app.py"), "--store", url, "--port", "0")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = 0
        while not port:
            line = (await process.stdout.readline()).decode()
            port = (
                int(line.split("http://")[1].split()[0].rpartition(":")[2].strip("/"))
                if "http://" in line
                else 0
            )
        reading = asyncio.create_task(process.stdout.read())
        yield process.pid, port
        reading.cancel()
    finally:
        process.terminate()
        await process.wait()


async def latencies(workers: Workers, port: int) -> list[float]:
    """Milliseconds from submitting a job until a worker has it, for several."""
    connection = Connection(port)
    taken: list[float] = []
    for number in range(JOBS):
        began = time.perf_counter()
        name = workers.names[number % len(workers.names)]
        steps = [{"name": name, "kwargs": {"a": 1, "b": 2}}]
        job = await connection.post("/v1/job", {"name": "idle", "functions": steps})
        taken.append((await workers.begun(job["id"]) - began) * 1000)
    connection.close()
    return taken


async def measure(count: int, functions: int, seconds: float, store: str | None) -> None:
    """Print what ``count`` idle workers cost."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        async with server(Path(folder), store) as (pid, port):
            workers, registered = Workers(port, functions), asyncio.Semaphore(0)
            began = time.perf_counter()
            tasks = [asyncio.create_task(workers.work(number, registered)) for number in range(count)]
            for _ in range(count):
                await registered.acquire()
            registration = time.perf_counter() - began
            await asyncio.sleep(3)
            used, began = cpu_seconds(pid), time.perf_counter()
            await asyncio.sleep(seconds)
            cpu = (cpu_seconds(pid) - used) / (time.perf_counter() - began)
            taken = sorted(await latencies(workers, port)) if count else [0.0]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            print(
                f"{count:5} workers: registered in {registration:5.2f} s, {cpu:6.1%} of a CPU, "
                f"{memory(pid):6.1f} MiB; a job begins after {statistics.median(taken):.1f} ms "
                f"(95 %: {taken[int(len(taken) * 0.95)]:.1f} ms)",
                flush=True,
            )


def main() -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to measure idle workers")
    parser.add_argument("--store", help="URL of the store (default: a new SQLite file)")
    parser.add_argument("--functions", type=int, default=10, help="how many functions there are")
    parser.add_argument("--workers", type=int, nargs="*", default=COUNTS)
    arguments = parser.parse_args()
    for count in arguments.workers:
        asyncio.run(measure(count, arguments.functions, arguments.seconds, arguments.store))


if __name__ == "__main__":
    main()
