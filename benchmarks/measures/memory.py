"""Memory: resident MiB of processes, idle and after work.

A ``raincheck worker`` when it is ready, after 10,000 and after 100,000 no-op jobs (``--quick``: a fifth of
each); the last figure is compared with the one before. ``raincheck server`` and ``raincheck serve`` when they
are ready. huey's consumer after one job.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import peer
from benchmarks.bench import Bench
from benchmarks.drain import fill, working
from benchmarks.figures import Measure, Readings, Row, at_most
from benchmarks.processes import Child
from benchmarks.serve import free_port, server_command, serving

MOST = 45.0


def run(bench: Bench) -> Readings:
    """Measure one process after another."""
    return {
        **_worker(bench, bench.size(10_000), bench.size(100_000)),
        "server": _server(bench, "server"),
        "serve": _server(bench, "serve"),
        "huey": _huey(bench),
    }


def _worker(bench: Bench, few: int, many: int) -> Readings:
    url = bench.store()
    bench.call(fill, url=url, jobs=many)
    with working(bench, url) as workers:
        worker = workers.children[0]
        workers.wait_until_ready()
        idle = resident(worker)
        workers.open_gate()
        workers.wait_until_done(few)
        after_few = resident(worker)
        workers.wait_until_done(many)
        return {"idle": idle, "few": after_few, "many": resident(worker)}


def _server(bench: Bench, kind: str) -> float:
    port = free_port()
    with serving(bench, server_command(bench.store(), port, kind), port) as server:
        return resident(server)


def _huey(bench: Bench) -> float:
    file = bench.fresh() / "huey.db"
    bench.call(peer.enqueue, peer.environment(file), jobs=1)
    with peer.consuming(bench, file) as consumer:
        consumer.until(lambda: peer.count_results(file) == 1)
        return resident(consumer)


def resident(child: Child) -> float:
    """MiB of memory that a process has in RAM."""
    status = Path(f"/proc/{child.pid}/status")
    if status.exists():
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    else:
        kib = subprocess.check_output(["ps", "-o", "rss=", "-p", str(child.pid)], text=True)
    return int(kib) / 1024


MEASURE = Measure(
    "memory",
    "Resident memory",
    (
        Row("idle", "worker, idle", "MiB", (at_most(MOST),)),
        Row("few", "worker after 10,000 jobs", "MiB"),
        Row("many", "worker after 100,000 jobs", "MiB", (at_most(MOST), at_most(1.1, "few"))),
        Row("server", "raincheck server, idle", "MiB"),
        Row("serve", "raincheck serve, idle", "MiB"),
        Row("huey", "huey's consumer after one job", "MiB"),
    ),
    run,
    once=True,
)
