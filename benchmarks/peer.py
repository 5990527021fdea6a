"""The peer: huey's consumer, started as its documentation says, on its own file.

``huey_consumer APP -k thread`` with default settings: one worker thread, a poll every 0.1 s that slows down
to one every 10 s, results kept. SQLite has the settings of huey, with or without ``fsync=True``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.bench import Bench, script
from benchmarks.processes import Child

CONSUMER = (script("huey_consumer"), "benchmarks.programs.peer.huey", "-k", "thread")
POLL_INTERVAL = 0.02
STALL_TIMEOUT = 60.0


def environment(file: Path, *, fsync: bool = False) -> dict[str, str]:
    """The environment variables that configure ``programs.peer``."""
    return {"HUEY_FILE": str(file), "HUEY_FSYNC": "fsync" if fsync else ""}


@contextmanager
def consuming(bench: Bench, file: Path, *, fsync: bool = False) -> Iterator[Child]:
    """Run huey's consumer."""
    with bench.start(CONSUMER, **environment(file, fsync=fsync)) as child:
        yield child


def pragmas() -> str:
    """In a child process: the settings of huey's SQLite connection."""
    from benchmarks.programs.peer import huey

    levels = ("off", "normal", "full", "extra")
    (journal,), (level,) = (
        huey.storage.conn.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
    )
    return f"{journal.upper()}, synchronous={levels[level]}"


def enqueue(jobs: int) -> float:
    """In a child process: jobs per second, enqueued one by one."""
    from benchmarks.programs.peer import nothing

    started_at = time.perf_counter()
    for _ in range(jobs):
        nothing()
    return jobs / (time.perf_counter() - started_at)


def count_results(file: Path) -> int:
    """The number of stored results."""
    with closing(sqlite3.connect(file)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM kv").fetchone()
    return int(count)


def drain(bench: Bench, jobs: int, *, fsync: bool = False) -> float:
    """Jobs per second that a consumer drains, counted from its first results."""
    file = bench.fresh() / "huey.db"
    bench.call(enqueue, environment(file, fsync=fsync), jobs=jobs)
    with consuming(bench, file, fsync=fsync) as child:
        started_at = child.until(lambda: count_results(file) > 0)
        first = count_results(file)
        ended = child.until(lambda: count_results(file) == jobs, STALL_TIMEOUT, interval=POLL_INTERVAL)
    return (jobs - first) / (ended - started_at)
