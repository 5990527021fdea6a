"""Backlog: jobs a second that one ``raincheck worker`` drains while very many are queued, and while few
are.

*Many*: the first 30,000 of 300,000. *Few*: queues of 10,000, three of them, each to its end. (``--quick``:
a fifth.)
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_least

QUEUES = 3


def run(bench: Bench) -> Readings:
    """The same number of jobs, from one long queue and from short ones."""
    few, many = bench.size(10_000), bench.size(300_000)
    return {
        "many": QUEUES * few / _seconds(bench, many, QUEUES * few),
        "few": QUEUES * few / sum(_seconds(bench, few, few) for _ in range(QUEUES)),
    }


def _seconds(bench: Bench, queued: int, jobs: int) -> float:
    url = bench.store()
    bench.call(fill, url=url, jobs=queued)
    seconds, _ = drain(bench, url, jobs)
    return seconds


MEASURE = Measure(
    "backlog",
    "Drain of a long queue",
    (
        Row("many", "with 300,000 queued", "jobs/s", (at_least(0.9, "few"),)),
        Row("few", "with 10,000 queued", "jobs/s"),
    ),
    run,
)
