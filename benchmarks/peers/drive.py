"""Puts a peer to work and says what came of it, each function in a fresh Python of the peer's virtualenv.

A drain is timed from when a fifth of the jobs is done, with all workers started, to when 19 of 20 are.
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

LOOK = 0.005
STUCK = 30.0
"""Seconds without progress after which a measure is given up."""

QUIET = 0.05
"""Seconds that a queue is to stay empty before its chains are believed to be done."""

WARM_UP = 20


def enqueue(peer: str, few: int, many: int, lacks: list[str]) -> dict[str, float]:
    """Jobs a second, ``few`` one by one and ``many`` in other ways; the bytes that a queued job takes."""
    with _client(peer) as client:
        client.one_by_one(1)
        empty = client.stored()
        found = {"one": few / client.one_by_one(few), "bytes": (client.stored() - empty) / few}
        for way in ("together", "bulk"):
            if way not in lacks:
                client.clear()
                method: Callable[[int], float] = getattr(client, way)
                method(1)
                found[way] = many / method(many)
        client.clear()
        return found


def drain(peer: str, jobs: int, workers: int, timed: int = 0) -> dict[str, float]:
    """Jobs a second done by so many workers, of the first ``timed`` if not of all; and what they took."""
    with _client(peer) as client:
        client.fill(jobs)
        queued = client.left()
        timed = timed or jobs
        with _working(client, workers) as children:
            first, began, spent = _until(client, children, queued - timed // 5)
            server = client.spent()
            last, ended, spent_by_then = _until(client, children, queued - timed * 19 // 20)
            server_by_then = client.spent()
            if timed == jobs:
                _until(client, children, 0)
            done = first - last
            found = {
                "rate": done / (ended - began),
                "cpu": (spent_by_then - spent) / done * 1e6,
                "rss": max(_mib(child.pid) for child in children),
            }
            if server is not None and server_by_then is not None:
                found["server_cpu"] = (server_by_then - server) / done * 1e6
            return found


def chain(peer: str, chains: int) -> dict[str, float]:
    """Steps a second of chains of three by one worker, from the end of a job that was there before them."""
    with _client(peer) as client:
        client.one_by_one(1)
        client.chains(chains)
        queued = client.left()
        with _working(client, 1) as children:
            _, began, _ = _until(client, children, queued - 1)
            while True:
                _, ended, _ = _until(client, children, 0)
                time.sleep(QUIET)
                if client.left() == 0:
                    return {"steps": 3 * chains / (ended - began)}


def latency(peer: str, calls: int) -> dict[str, float]:
    """Milliseconds from submission to result with an idle worker, and its memory."""
    with _client(peer) as client, _working(client, 1) as children:
        client.latencies(WARM_UP)
        idle = _mib(children[0].pid)
        cuts = quantiles(client.latencies(calls), n=100, method="inclusive")
        return {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000, "rss": idle}


def prepare(peer: str) -> list[str]:
    """Clear the server for those who are measured elsewhere; the command of a worker."""
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
    """Worker processes while the block runs; killed, for how they stop is not what is measured."""
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
    """Wait until so few are left: how few, when that was, and the CPU seconds of the workers by then."""
    seen, seen_at = None, time.perf_counter()
    while True:
        left, now = client.left(), time.perf_counter()
        if left <= least:
            return left, now, sum(_cpu(child.pid) for child in children)
        if left != seen:
            seen, seen_at = left, now
        elif now - seen_at > STUCK:
            raise ChildError(f"{left} are left, and for {STUCK:g} s no job was done")
        for child in children:
            child.check()
        time.sleep(LOOK)


def _tree(pid: int) -> Iterator[Path]:
    """The process and all that it has started."""
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
