"""Measures a peer. Each function runs in a new Python process of the peer's virtualenv.

The time of a drain runs from when a fifth of the jobs is done, with all workers started, until 19 of 20
are done.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from typing import cast

from benchmarks.peers.contract import Client
from benchmarks.processes import Child, ChildError, running

POLL_INTERVAL = 0.005
STALL_TIMEOUT = 30.0
"""Seconds without progress after which a measure fails."""

QUIET = 0.05
"""Seconds that a queue must stay empty before its chains count as done."""

WARM_UP = 20


def enqueue(peer: str, few: int, many: int, lacks: list[str]) -> dict[str, float]:
    """Jobs per second, ``few`` enqueued one by one and ``many`` in other ways, and bytes per queued job."""
    with _client(peer) as client:
        client.one_by_one(1)
        empty = client.stored()
        readings = {"one": few / client.one_by_one(few), "bytes": (client.stored() - empty) / few}
        for way in ("together", "bulk"):
            if way not in lacks:
                client.clear()
                method: Callable[[int], float] = getattr(client, way)
                method(1)
                readings[way] = many / method(many)
        client.clear()
        return readings


def drain(peer: str, jobs: int, workers: int, timed: int = 0) -> dict[str, float]:
    """Jobs per second that workers drain, of the first ``timed`` or of all jobs, and their CPU and memory."""
    with _client(peer) as client:
        client.fill(jobs)
        queued = client.left()
        timed = timed or jobs
        with _working(client, workers) as children:
            first, started_at, spent = _until(client, children, queued - timed // 5)
            server = client.spent()
            last, ended, spent_by_then = _until(client, children, queued - timed * 19 // 20)
            server_by_then = client.spent()
            if timed == jobs:
                _until(client, children, 0)
            done = first - last
            readings = {
                "rate": done / (ended - started_at),
                "cpu": (spent_by_then - spent) / done * 1e6,
                "rss": max(_mib(child.pid) for child in children),
            }
            if server is not None and server_by_then is not None:
                readings["server_cpu"] = (server_by_then - server) / done * 1e6
            return readings


def chain(peer: str, chains: int) -> dict[str, float]:
    """Steps per second of chains of three with one worker, from the end of a job queued before them."""
    with _client(peer) as client:
        client.one_by_one(1)
        client.chains(chains)
        queued = client.left()
        with _working(client, 1) as children:
            _, started_at, _ = _until(client, children, queued - 1)
            while True:
                _, ended, _ = _until(client, children, 0)
                time.sleep(QUIET)
                if client.left() == 0:
                    return {"steps": 3 * chains / (ended - started_at)}


def latency(peer: str, calls: int) -> dict[str, float]:
    """Milliseconds from submit to result with an idle worker, and its memory."""
    with _client(peer) as client, _working(client, 1) as children:
        client.latencies(WARM_UP)
        idle = _mib(children[0].pid)
        cuts = quantiles(client.latencies(calls), n=100, method="inclusive")
        return {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000, "rss": idle}


def prepare(peer: str) -> list[str]:
    """Clear the server for a measure over HTTP; returns the command of a worker."""
    with _client(peer) as client:
        return client.worker()


@contextmanager
def _client(peer: str) -> Iterator[Client]:
    module = importlib.import_module(f"benchmarks.peers.systems.{peer}")
    with closing(cast(Client, module.client())) as client:
        client.clear()
        yield client


@contextmanager
def _working(client: Client, count: int) -> Iterator[list[Child]]:
    """Run worker processes. They are killed at the end, as their stop is not measured."""
    log = Path(os.environ["BENCH_FOLDER"]) / "worker.log"
    with ExitStack() as stack:
        children = [stack.enter_context(running(client.worker(), log, {})) for _ in range(count)]
        try:
            yield children
        finally:
            for child in children:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


def _until(client: Client, children: list[Child], least: int) -> tuple[int, float, float]:
    """Wait until at most ``least`` jobs are left; returns their number, the time, the CPU time."""
    seen, seen_at = None, time.perf_counter()
    while True:
        left, now = client.left(), time.perf_counter()
        if left <= least:
            return left, now, sum(_cpu(child.pid) for child in children)
        if left != seen:
            seen, seen_at = left, now
        elif now - seen_at > STALL_TIMEOUT:
            raise ChildError(f"no job finished for {STALL_TIMEOUT:g} s; {left} are left")
        for child in children:
            child.check()
        time.sleep(POLL_INTERVAL)


def _tree(pid: int) -> Iterator[Path]:
    """The process and its descendants."""
    yield Path(f"/proc/{pid}")
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _cpu(pid: int) -> float:
    ticks = 0
    for process in _tree(pid):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _mib(pid: int) -> float:
    """Resident MiB of a worker with all its processes."""
    pages = sum(int((process / "statm").read_text().split()[1]) for process in _tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
