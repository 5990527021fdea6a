"""Chain: steps per second of chains of three, compared with the same number of single-step jobs.

One ``raincheck worker`` process drains each of them, as in ``drain``.
"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_least

LENGTH = 3


def run(bench: Bench) -> Readings:
    """Drain the same number of steps as chains and as single-step jobs."""
    jobs = bench.size(10_000)
    return {"chain": _rate(bench, jobs, LENGTH), "single": _rate(bench, jobs * LENGTH, 1)}


def _rate(bench: Bench, jobs: int, steps: int) -> float:
    url = bench.store()
    bench.call(fill, url=url, jobs=jobs, steps=steps)
    seconds, _ = drain(bench, url, jobs)
    return jobs * steps / seconds


MEASURE = Measure(
    "chain",
    "Chain of three",
    (
        Row("chain", "steps of chains of three", "steps/s", (at_least(0.8, "single"),)),
        Row("single", "steps of single-step jobs", "steps/s"),
    ),
    run,
)
