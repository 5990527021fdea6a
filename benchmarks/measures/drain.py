"""Drain: jobs per second that worker processes finish from a full queue of async no-op functions.

``raincheck worker`` has its default settings (concurrency 100, leases, fencing, FULL durability) and stores
results. The time runs from its first claim, when it is ready, until the store counts all jobs as done.
*Bare*: transactions that finish a hundred jobs and claim a hundred, in one table with partial indexes, and in
tables like those of raincheck. huey: its consumer, from its first stored result to its last.
"""

from __future__ import annotations

from benchmarks import bare, peer
from benchmarks.bench import CONCURRENCY, Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_least, ratio_to


def run(bench: Bench) -> Readings:
    """Drain the same number of jobs in each way, except for huey, which is slow."""
    jobs, few = bench.size(30_000), bench.size(1500)
    return {
        "one": _rate(bench, jobs, 1),
        "two": _rate(bench, jobs, 2),
        "bare": bench.call(bare.one_table, file=_file(bench), jobs=jobs, batch=CONCURRENCY),
        "bare_three": bench.call(bare.three_tables, file=_file(bench), jobs=jobs, batch=CONCURRENCY),
        "huey": peer.drain(bench, few),
        "huey_fsync": peer.drain(bench, few, fsync=True),
    }


def _rate(bench: Bench, jobs: int, workers: int) -> float:
    url = bench.store()
    bench.call(fill, url=url, jobs=jobs)
    seconds, _ = drain(bench, url, jobs, workers)
    return jobs / seconds


def _file(bench: Bench) -> str:
    return str(bench.fresh() / "bare.db")


MEASURE = Measure(
    "drain",
    "Drain",
    (
        Row(
            "one",
            "one worker process",
            "jobs/s",
            (at_least(0.35, "bare"), at_least(0.35, "bare_three"), ratio_to("huey")),
        ),
        Row("two", "two worker processes", "jobs/s", (at_least(1.25, "one"),)),
        Row("bare", "bare finish + claim, one table", "jobs/s"),
        Row("bare_three", "bare finish + claim, raincheck's tables", "jobs/s"),
        Row("huey", "huey, one consumer", "jobs/s"),
        Row("huey_fsync", "huey with fsync=True", "jobs/s"),
    ),
    run,
)
