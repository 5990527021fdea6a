"""Results: a chain of 100 steps that return 1 MiB each, compared with 100 single-step jobs, on both stores.

The rows are the seconds until all jobs are done; the peak memory of the worker in MiB; the MiB that the
worker writes to the file and its WAL (SQLite) or sends to the server (Valkey); and the MiB that remain:
the size of the file, or the server's ``used_memory``.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import redis

from benchmarks.bench import Bench
from benchmarks.drain import fill, working
from benchmarks.figures import Check, Measure, Readings, Row, at_most
from benchmarks.processes import Child
from benchmarks.programs.functions import megabyte
from benchmarks.valkey import valkey

STEPS = 100
MIB = 2**20


def run(bench: Bench) -> Readings:
    """Drain both on each store."""
    readings: Readings = {}
    steps = bench.size(STEPS)
    for kind, jobs, length in (("chain", 1, steps), ("single", steps, 1)):
        folder = bench.fresh()
        readings |= _named(
            f"sqlite-{kind}", _drained(bench, f"sqlite:///{folder / 'bench.db'}", jobs, length)
        )
        with valkey(bench.fresh()) as url:
            readings |= _named(f"valkey-{kind}", _drained(bench, url, jobs, length))
    return readings


def _named(prefix: str, figures: Readings) -> Readings:
    return {f"{prefix}-{name}": figure for name, figure in figures.items()}


def _drained(bench: Bench, url: str, jobs: int, length: int) -> Readings:
    bench.call(fill, url=url, jobs=jobs, steps=length, function=megabyte.name)
    with working(bench, url) as workers:
        started_at = workers.open_gate()
        before = _written(url, workers.children[0])
        seconds = workers.wait_until_done(jobs) - started_at
        written = _written(url, workers.children[0]) - before
        peak = _status(workers.children[0], "VmHWM")
    return {"seconds": seconds, "peak": peak, "written": written, "kept": _stored(url)}


def _status(child: Child, name: str) -> float:
    """MiB of memory, from a line of the status of the process."""
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def _written(url: str, child: Child) -> float:
    """MiB written so far."""
    if url.startswith("sqlite"):
        lines = Path(f"/proc/{child.pid}/io").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("wchar:"))) / MIB
    return float(_info(url, "stats")["total_net_input_bytes"]) / MIB


def _stored(url: str) -> float:
    """MiB that the store has when all is done."""
    if url.startswith("sqlite"):
        return Path(urlsplit(url).path).stat().st_size / MIB
    return float(_info(url, "memory")["used_memory"]) / MIB


def _info(url: str, section: str) -> dict[str, float]:
    with redis.Redis.from_url(url) as client:
        info: dict[str, float] = client.info(section)
        return info


def _rows() -> tuple[Row, ...]:
    figures = (
        ("seconds", "seconds", "s", 1.3),
        ("peak", "peak memory of the worker", "MiB", 1.0),
        ("written", "written", "MiB", 1.3),
        ("kept", "stored at the end", "MiB", 1.3),
    )
    rows = []
    for store in ("sqlite", "valkey"):
        for name, label, unit, most in figures:
            against = f"{store}-single-{name}"
            checks: tuple[Check, ...] = (at_most(most, against),)
            rows.append(Row(f"{store}-chain-{name}", f"{store}, a chain: {label}", unit, checks))
            rows.append(Row(against, f"{store}, jobs of one step: {label}", unit))
    return tuple(rows)


MEASURE = Measure("results", "Results of 1 MiB", _rows(), run)
