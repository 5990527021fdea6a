"""Claims, releases and heartbeats: moves between the queue and the leases, and the register of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from raincheck.core.codec import encode_worker
from raincheck.core.model import Lease, WorkerInfo
from raincheck.store.base import ClaimRequest, Held
from raincheck.store.sqlite.connection import query, write_rows
from raincheck.store.sqlite.writes import ENQUEUE, Effects, count_queued

WAITING = """
    SELECT name, (SELECT min(priority) FROM queue WHERE function = name) FROM function
    WHERE name IN (SELECT value FROM json_each(?)) AND places > 0 ORDER BY served, name
"""
READY = """
    SELECT function, priority, due, job, step FROM queue
    WHERE function = ? AND priority = ? AND due <= ? ORDER BY due, job, step LIMIT ?
"""
RECORDS = "SELECT n, record FROM json_each(?) CROSS JOIN job ON n = value"
TAKE = "DELETE FROM queue WHERE function = ? AND priority = ? AND (due, job, step) <= (?, ?, ?)"
NEXT_PRIORITY = "SELECT min(priority) FROM queue WHERE function = ? AND priority > ?"
FIRST_DUE = "SELECT min(due) FROM queue WHERE function = ? AND priority = ?"
NEW_TOKENS = "UPDATE meta SET token = token + ? RETURNING token"
SERVED = "UPDATE function SET places = places - ?, served = ? WHERE name = ?"
LEASE = """
    INSERT INTO lease (job, step, token, worker, since, until, function, priority, due)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
EXTEND = """
    UPDATE lease SET until = ? WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING (SELECT rev FROM job WHERE n = lease.job)
"""
RELEASE = """
    DELETE FROM lease WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING function, priority, due, job, step
"""
REPORT = """
    UPDATE lease SET progress = ? WHERE job = (SELECT n FROM job WHERE id = ?) AND step = ? AND token = ?
    RETURNING 1
"""

REGISTER = """
    INSERT INTO worker (id, info, seen, until) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE
    SET info = excluded.info, seen = excluded.seen, until = max(until, excluded.until)
"""
UNREGISTER = "DELETE FROM worker WHERE id = ?"

_encode = msgspec.json.Encoder().encode


class Claimed(NamedTuple):
    """The records of the claimed jobs by number, and the leases, each with the number of its job."""

    records: dict[int, bytes]
    leases: list[tuple[int, Lease]]


NOTHING = Claimed({}, [])


def claim(connection: apsw.Connection, request: ClaimRequest, now: float) -> Claimed:
    """Lease up to ``limit`` ready steps: the highest priority first, an equal share for each function."""
    queues = _queues(connection, request.functions)
    rows: list[Any] = []
    room = dict(request.limits)
    while queues and len(rows) < request.limit:
        priority = min(each.priority for each in queues)
        functions = [each.function for each in queues if each.priority == priority]
        rows += _dequeue_shares(connection, functions, priority, request.limit - len(rows), room, now)
        if len(rows) < request.limit:
            queues = [each for each in queues if room.get(each.function, 1) > 0]
            queues = list(_go_on(connection, queues, priority))
    if not rows:
        return NOTHING
    last: int = connection.execute(NEW_TOKENS, (len(rows),)).get
    until = now + request.lease
    counts = Counter(row[0] for row in rows)
    connection.executemany(SERVED, [(n, last, function) for function, n in counts.items()])
    worker, first = request.worker, last - len(rows) + 1
    leased = [
        (job, step, token, worker, now, until, function, priority, due)
        for token, (function, priority, due, job, step) in enumerate(rows, first)
    ]
    write_rows(connection, LEASE, leased)
    numbers = list({row[0] for row in leased})  # a job may have many steps
    return Claimed(
        dict(query(connection, RECORDS, (_encode(numbers).decode(),))),
        [(row[0], Lease(row[1], row[2], worker, now, until)) for row in leased],
    )


class _Queue(NamedTuple):
    """The queue of a function, and a priority in it, negated as in the table."""

    function: str
    priority: int


def _queues(connection: apsw.Connection, functions: tuple[str, ...]) -> list[_Queue]:
    """The queues that are not empty, each with its highest priority, the one served longest ago first."""
    return [_Queue(*row) for row in query(connection, WAITING, (_encode(functions).decode(),))]


def _go_on(connection: apsw.Connection, queues: list[_Queue], priority: int) -> Iterator[_Queue]:
    """The queues after this priority: those that have it go on to their next one, if there is one."""
    for each in queues:
        if each.priority != priority:
            yield each
        elif (following := connection.execute(NEXT_PRIORITY, each).get) is not None:
            yield _Queue(each.function, following)


def _dequeue_shares(
    connection: apsw.Connection,
    functions: list[str],
    priority: int,
    limit: int,
    room: dict[str, int],
    now: float,
) -> list[Any]:
    """Dequeue an equal share per function; what one does not use is shared by those that have more.

    ``room`` is what is left of the limits of functions; what is dequeued is subtracted.
    """
    rows: list[Any] = []
    while functions and len(rows) < limit:
        share = -(-(limit - len(rows)) // len(functions))
        unfinished = []
        for function in functions:
            most = min(share, limit - len(rows), room.get(function, limit))
            taken = _dequeue(connection, function, priority, most, now)
            rows += taken
            if function in room:
                room[function] -= len(taken)
            if len(taken) == most and room.get(function, 1) > 0:
                unfinished.append(function)
        functions = unfinished
    return rows


def _dequeue(connection: apsw.Connection, function: str, priority: int, limit: int, now: float) -> list[Any]:
    ready = list(query(connection, READY, (function, priority, now, limit))) if limit else []
    if ready:  # the first entries of that priority: delete all up to the last of them
        connection.execute(TAKE, ready[-1])
    return ready


def next_due(connection: apsw.Connection, functions: tuple[str, ...]) -> float | None:
    """The earliest due time of the queue entries of these functions; None: there are no entries."""
    queues = _queues(connection, functions)
    times: list[float] = []
    while queues:
        priority = min(each.priority for each in queues)
        times += (connection.execute(FIRST_DUE, each).get for each in queues if each.priority == priority)
        queues = list(_go_on(connection, queues, priority))
    return min(times, default=None)


def heartbeat(
    connection: apsw.Connection, worker: WorkerInfo, held: Sequence[Held], lease: float, now: float
) -> list[int | None]:
    """Register a worker and extend its leases; the revision of the job per lease, None for a lost lease."""
    if worker.state == "stopped":
        connection.execute(UNREGISTER, (worker.id,))
    else:
        connection.execute(REGISTER, (worker.id, encode_worker(worker), now, now + lease))
    return [connection.execute(EXTEND, (now + lease, *each)).get for each in held]


def release(connection: apsw.Connection, held: Sequence[Held], effects: Effects) -> None:
    """Return steps to the queue entries that they were claimed from."""
    entries = [entry for lease in held for entry in query(connection, RELEASE, lease)]
    write_rows(connection, ENQUEUE, entries)
    count_queued(connection, Counter(function for function, *_ in entries))
    for function, _, due, _, _ in entries:
        effects.add_entry(function, due)


def report(connection: apsw.Connection, lease: Held, progress: bytes) -> bool:
    """Store the progress of an attempt with its lease. False: the lease is lost."""
    return connection.execute(REPORT, (progress, *lease)).get is not None
