"""What is removed, and the register of workers."""

from __future__ import annotations

from collections import Counter

import apsw
import msgspec

from raincheck.model import WorkerInfo
from raincheck.store.sqlite.changes import count

WORKER_MEMORY = 60.0
"""Seconds for which a worker that fell silent is still shown."""

_encoder = msgspec.msgpack.Encoder()


def prune(connection: apsw.Connection, limit: int, remember: float, now: float) -> int:
    """Remove ended jobs whose time has come, and all memories that have run out."""
    rows = connection.execute(
        "SELECT n, id, state FROM job WHERE ended AND alarm <= ? ORDER BY alarm LIMIT ?", (now, limit)
    ).fetchall()
    _remove(connection, rows, now + remember)
    for statement in (
        "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until <= ? LIMIT ?)",
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE until <= ? LIMIT ?)",
    ):
        connection.execute(statement, (now, limit))
    connection.execute("DELETE FROM worker WHERE until <= ?", (now - WORKER_MEMORY,))
    return len(rows)


def forget(connection: apsw.Connection, job_id: str, rev: int, remember: float, now: float) -> bool:
    """Remove one ended job that is still at this revision."""
    rows = connection.execute(
        "SELECT n, id, state FROM job WHERE id = ? AND rev = ? AND ended", (job_id, rev)
    ).fetchall()
    _remove(connection, rows, now + remember)
    return bool(rows)


def _remove(connection: apsw.Connection, rows: list[tuple[int, str, str]], until: float) -> None:
    if not rows:
        return
    numbers = [(n,) for n, _, _ in rows]
    connection.executemany(
        "INSERT OR REPLACE INTO gone (id, until) VALUES (?, ?)", [(job_id, until) for _, job_id, _ in rows]
    )
    for n, _, _ in rows:
        names = _functions_of(connection, n)
        connection.executemany(
            "DELETE FROM job_function WHERE function = ? AND job = ?", [(name, n) for name in names]
        )
    connection.executemany("DELETE FROM job WHERE n = ?", numbers)
    count(connection, "state", Counter({s: -k for s, k in Counter(state for _, _, state in rows).items()}))


def _functions_of(connection: apsw.Connection, n: int) -> set[str]:
    record = connection.execute("SELECT record FROM job WHERE n = ?", (n,)).get
    return {step[0] for step in msgspec.msgpack.decode(record)[2]}


def register(connection: apsw.Connection, worker: WorkerInfo, ttl: float, now: float) -> None:
    """Note a worker, or that it is still there."""
    connection.execute(
        "INSERT OR REPLACE INTO worker (id, info, seen, until) VALUES (?, ?, ?, ?)",
        (worker.id, _encoder.encode(worker), now, now + ttl),
    )


def unregister(connection: apsw.Connection, worker_id: str) -> None:
    """Strike a worker out."""
    connection.execute("DELETE FROM worker WHERE id = ?", (worker_id,))
