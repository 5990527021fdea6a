"""The peer at work: huey's consumer, started as its documents say, on a file of its own.

``huey_consumer APP -k thread``, all else as it comes: one worker thread, a poll every 0.1 s that slows down
to one every 10 s, results kept. SQLite is left as huey sets it up, or told ``fsync=True``.
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
LOOK = 0.02
STUCK = 60.0


def environment(file: Path, *, fsync: bool = False) -> dict[str, str]:
    """What tells ``programs.peer`` which file to use, and how."""
    return {"HUEY_FILE": str(file), "HUEY_FSYNC": "fsync" if fsync else ""}


@contextmanager
def consuming(bench: Bench, file: Path, *, fsync: bool = False) -> Iterator[Child]:
    """huey's consumer while the block runs."""
    with bench.start(CONSUMER, **environment(file, fsync=fsync)) as child:
        yield child


def pragmas() -> str:
    """In a child: what SQLite is set to on huey's connection."""
    from benchmarks.programs.peer import huey

    levels = ("off", "normal", "full", "extra")
    (journal,), (level,) = (
        huey.storage.conn.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
    )
    return f"{journal.upper()}, synchronous={levels[level]}"


def enqueue(jobs: int) -> float:
    """In a child: jobs a second enqueued one by one."""
    from benchmarks.programs.peer import nothing

    begun = time.perf_counter()
    for _ in range(jobs):
        nothing()
    return jobs / (time.perf_counter() - begun)


def done(file: Path) -> int:
    """How many results there are."""
    with closing(sqlite3.connect(file)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM kv").fetchone()
    return int(count)


def drain(bench: Bench, jobs: int, *, fsync: bool = False) -> float:
    """Jobs a second that a consumer does of those in its queue, from its first results on."""
    file = bench.fresh() / "huey.db"
    bench.call(enqueue, environment(file, fsync=fsync), jobs=jobs)
    with consuming(bench, file, fsync=fsync) as child:
        begun = child.until(lambda: done(file) > 0)
        first = done(file)
        ended = child.until(lambda: done(file) == jobs, STUCK, look=LOOK)
    return (jobs - first) / (ended - begun)
