"""Claiming, extending and giving back: moves between the queue and the leases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from raincheck.model import Lease
from raincheck.store.base import Held
from raincheck.store.sqlite.changes import count

_READY = """
    SELECT queue.function, queue.priority, queue.due, queue.job, queue.step, job.record
    FROM queue JOIN job ON job.n = queue.job
    WHERE queue.function = ? AND queue.priority = ? AND queue.due <= ?
    ORDER BY queue.due, queue.job, queue.step LIMIT ?
"""
_DEQUEUE = "DELETE FROM queue WHERE function = ? AND priority = ? AND due = ? AND job = ? AND step = ?"
_LEASE = """
    INSERT INTO lease (job, step, token, worker, since, until, function, priority, due)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_OF_ID = "job = (SELECT n FROM job WHERE id = ?)"

Taken = list[tuple[bytes, Lease]]


class ClaimCall(NamedTuple):
    """The arguments of a claim; ``until`` is how long it may wait (monotonic seconds)."""

    worker: str
    functions: tuple[str, ...]
    limit: int
    lease: float
    until: float


def claim(connection: apsw.Connection, call: ClaimCall, now: float) -> Taken:
    """Lease up to ``limit`` ready steps: the share of each function first, then what is left."""
    waiting = _waiting(connection, call.functions)
    rows: list[tuple[Any, ...]] = []
    while waiting and len(rows) < call.limit:
        share = -(-(call.limit - len(rows)) // len(waiting))
        still = []
        for function in waiting:
            room = min(share, call.limit - len(rows))
            got = _dequeue(connection, function, room, now)
            rows += got
            if len(got) == room:
                still.append(function)
        waiting = still
    if not rows:
        return []
    count(connection, "queue", Counter({f: -n for f, n in Counter(row[0] for row in rows).items()}))
    last = connection.execute("UPDATE meta SET token = token + ? RETURNING token", (len(rows),)).get
    first = last - len(rows) + 1
    until = now + call.lease
    connection.executemany(
        _LEASE,
        [
            (n, step, first + i, call.worker, now, until, function, priority, due)
            for i, (function, priority, due, n, step, _) in enumerate(rows)
        ],
    )
    return [(row[5], Lease(row[4], first + i, call.worker, now, until)) for i, row in enumerate(rows)]


def _waiting(connection: apsw.Connection, functions: tuple[str, ...]) -> list[str]:
    """Those of ``functions`` with anything in their queue, the one served longest ago first."""
    rows = connection.execute("SELECT name FROM counter WHERE kind = 'queue' AND value > 0").fetchall()
    wanted = set(functions)
    names = [name for (name,) in rows if name in wanted]
    if len(names) > 1:
        turn = connection.execute("SELECT token FROM meta").get % len(names)
        names = names[turn:] + names[:turn]
    return names


def _dequeue(connection: apsw.Connection, function: str, limit: int, now: float) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for priority in _priorities(connection, function):
        rows += connection.execute(_READY, (function, priority, now, limit - len(rows))).fetchall()
        if len(rows) >= limit:
            break
    connection.executemany(_DEQUEUE, [row[:5] for row in rows])
    return rows


def _priorities(connection: apsw.Connection, function: str) -> list[int]:
    """The distinct priorities in a queue, highest first, found by hopping along the index."""
    found: list[int] = []
    hop = "SELECT min(priority) FROM queue WHERE function = ? AND priority > ?"
    priority = connection.execute(hop, (function, -(2**63))).get
    while priority is not None:
        found.append(priority)
        priority = connection.execute(hop, (function, priority)).get
    return found


def next_due(connection: apsw.Connection, functions: tuple[str, ...]) -> float | None:
    """When the next place of any of ``functions`` is due; None: there is none."""
    times = []
    for function in _waiting(connection, functions):
        for priority in _priorities(connection, function):
            times.append(
                connection.execute(
                    "SELECT min(due) FROM queue WHERE function = ? AND priority = ?", (function, priority)
                ).get
            )
    return min((t for t in times if t is not None), default=None)


def extend(connection: apsw.Connection, held: Sequence[Held], until: float) -> list[int | None]:
    """Let leases run until then; the job's revision for each, None for a lost one."""
    answers: list[int | None] = []
    for lease in held:
        row = connection.execute(
            f"UPDATE lease SET until = ? WHERE {_OF_ID} AND step = ? AND token = ? RETURNING job",  # noqa: S608
            (until, lease.job_id, lease.step, lease.token),
        ).get
        answers.append(
            None if row is None else connection.execute("SELECT rev FROM job WHERE n = ?", (row,)).get
        )
    return answers


def release(connection: apsw.Connection, held: Sequence[Held]) -> list[str]:
    """Put steps back where they were claimed from; the functions they are of."""
    places = []
    for lease in held:
        row = connection.execute(
            f"DELETE FROM lease WHERE {_OF_ID} AND step = ? AND token = ? RETURNING function, priority, due, job, step",  # noqa: S608
            lease,
        ).fetchall()
        places += row
    connection.executemany(
        "INSERT INTO queue (function, priority, due, job, step) VALUES (?, ?, ?, ?, ?)", places
    )
    count(connection, "queue", Counter(place[0] for place in places))
    return [place[0] for place in places]


def report(connection: apsw.Connection, lease: Held, progress: bytes) -> bool:
    """Note progress on a lease."""
    row = connection.execute(
        f"UPDATE lease SET progress = ? WHERE {_OF_ID} AND step = ? AND token = ? RETURNING 1",  # noqa: S608
        (progress, *lease),
    ).get
    return row is not None
