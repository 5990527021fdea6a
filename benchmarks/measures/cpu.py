"""CPU: microseconds of processor time of a ``raincheck worker`` per no-op job.

The rows are the whole process while it drains a full queue as in ``drain``, including SQLite; the thread of
the event loop (functions, lifecycle, codec); and the thread that writes (SQLite). *gather*: tasks of no-op
coroutines, a hundred at a time on uvloop.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import CONCURRENCY, Bench
from benchmarks.drain import drain, fill
from benchmarks.figures import Measure, Readings, Row, at_most, ratio_to
from benchmarks.programs.functions import nothing


def run(bench: Bench) -> Readings:
    """Drain a store, then run tasks with gather."""
    jobs, url = bench.size(30_000), bench.store()
    bench.call(fill, url=url, jobs=jobs)
    _, spent = drain(bench, url, jobs)
    micros = {name: seconds / jobs * 1e6 for name, seconds in spent.items()}
    return {
        "process": micros["process"],
        "loop": micros["MainThread"],
        "writer": micros["raincheck-writer"],
        "gather": bench.call(gather, tasks=bench.size(200_000)),
    }


async def gather(tasks: int) -> float:
    """In a child process: microseconds of processor time per task."""
    started_at = time.process_time()
    for _ in range(tasks // CONCURRENCY):
        await asyncio.gather(*(nothing.function() for _ in range(CONCURRENCY)))
    return (time.process_time() - started_at) / tasks * 1e6


MEASURE = Measure(
    "cpu",
    "Processor time per no-op job",
    (
        Row("process", "worker process, including SQLite", "µs", (at_most(3.0, "gather"),)),
        Row("loop", "thread of the event loop", "µs", (ratio_to("gather"),)),
        Row("writer", "thread that writes", "µs"),
        Row("gather", "asyncio.gather of no-op tasks", "µs"),
    ),
    run,
)
