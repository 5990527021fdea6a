"""Schedules: each a row, changed only by who has read it as it is."""

from __future__ import annotations

import apsw

from raincheck.core.codec import decode_schedule, encode_schedule
from raincheck.core.model import Schedule
from raincheck.store.sqlite.connection import query

INSERT = "INSERT INTO schedule (name, id, rev, due, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
REMOVE = "DELETE FROM schedule WHERE name = ? AND id = ? AND rev = ?"
UPDATE = "UPDATE schedule SET rev = ?, due = ?, record = ? WHERE name = ? AND id = ? AND rev = ?"
ALL = "SELECT record FROM schedule ORDER BY name"
ONE = "SELECT record FROM schedule WHERE name = ?"
DUE = "SELECT record FROM schedule WHERE due <= ? ORDER BY due LIMIT ?"


def put(connection: apsw.Connection, schedule: Schedule) -> bool:
    """Write or remove a schedule, if what is there is what it follows on."""
    guard = (schedule.name, schedule.id, schedule.rev - 1)
    if schedule.removed:
        connection.execute(REMOVE, guard)
        return connection.changes() == 1
    record = encode_schedule(schedule)
    if schedule.rev == 1:
        connection.execute(INSERT, (schedule.name, schedule.id, schedule.rev, schedule.due, record))
    else:
        connection.execute(UPDATE, (schedule.rev, schedule.due, record, *guard))
    return connection.changes() == 1


def find(connection: apsw.Connection, name: str | None) -> list[Schedule]:
    """One schedule, or all."""
    rows = query(connection, ALL) if name is None else query(connection, ONE, (name,))
    return [decode_schedule(record) for (record,) in rows]


def due(connection: apsw.Connection, limit: int, now: float) -> list[Schedule]:
    """Those whose time has come."""
    return [decode_schedule(record) for (record,) in query(connection, DUE, (now, limit))]
