"""What is removed, and the register of workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import apsw
import msgspec

from raincheck.codec import decode_job
from raincheck.model import WorkerInfo
from raincheck.store.sqlite.changes import News, tally
from raincheck.store.sqlite.connection import query

WORKER_MEMORY = 60.0
"""Seconds for which a worker that fell silent is still shown."""

TO_PRUNE = "SELECT n, id, state, record FROM job WHERE ended AND alarm <= ? ORDER BY alarm LIMIT ?"
TO_FORGET = "SELECT n, id, state, record FROM job WHERE id = ? AND rev = ? AND ended"
REMEMBER = "INSERT OR REPLACE INTO gone (id, until) VALUES (?, ?)"
UNLIST = "DELETE FROM job_function WHERE function = ? AND job = ?"
REMOVE = "DELETE FROM job WHERE n = ?"
RUN_OUT = (
    "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until <= ? LIMIT ?)",
    "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE until <= ? LIMIT ?)",
)

_encoder = msgspec.msgpack.Encoder()


def prune(connection: apsw.Connection, limit: int, remember: float, news: News) -> int:
    """Remove ended jobs whose time has come, and all memories that have run out."""
    now = news.now
    removed = _remove(connection, list(query(connection, TO_PRUNE, (now, limit))), remember, news)
    for statement in RUN_OUT:
        connection.execute(statement, (now, limit))
    connection.execute("DELETE FROM worker WHERE until <= ?", (now - WORKER_MEMORY,))
    connection.execute("DELETE FROM function WHERE places = 0")
    return removed


def forget(connection: apsw.Connection, job_id: str, rev: int, remember: float, news: News) -> bool:
    """Remove one ended job that is still at this revision."""
    return bool(_remove(connection, list(query(connection, TO_FORGET, (job_id, rev))), remember, news))


def _remove(connection: apsw.Connection, rows: list[Any], remember: float, news: News) -> int:
    listed = {(step.function, n) for n, _, _, record in rows for step in decode_job(record).steps}
    connection.executemany(REMEMBER, [(job_id, news.now + remember) for _, job_id, _, _ in rows])
    connection.executemany(UNLIST, listed)
    connection.executemany(REMOVE, [(n,) for n, _, _, _ in rows])
    tally(connection, Counter({s: -k for s, k in Counter(state for _, _, state, _ in rows).items()}))
    news.jobs.update((job_id, None) for _, job_id, _, _ in rows)
    return len(rows)


def register(connection: apsw.Connection, worker: WorkerInfo, ttl: float, now: float) -> None:
    """Note a worker, or that it is still there."""
    connection.execute(
        "INSERT OR REPLACE INTO worker (id, info, seen, until) VALUES (?, ?, ?, ?)",
        (worker.id, _encoder.encode(worker), now, now + ttl),
    )


def unregister(connection: apsw.Connection, worker_id: str) -> None:
    """Strike a worker out."""
    connection.execute("DELETE FROM worker WHERE id = ?", (worker_id,))
