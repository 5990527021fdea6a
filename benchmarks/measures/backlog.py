"""Backlog: jobs per second that one ``raincheck worker`` drains from a long queue and from short queues.

*Many*: the first 30,000 of 300,000 jobs. *Few*: three queues of 10,000 jobs, drained completely.
(``--quick``: a fifth.)
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_least

QUEUES = 3


def run(bench: Bench) -> Readings:
    """Drain the same number of jobs from one long queue and from short queues."""
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
