"""Schedules as the scripts keep them: a value that begins with what guards it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from raincheck.core.codec import decode_schedule, encode_schedule
from raincheck.core.model import Schedule

HEAD = 40
"""Bytes before a record: its id and its revision."""


def put_words(schedule: Schedule) -> tuple[Any, ...]:
    """How ``schedule.lua`` is told to write or remove a schedule."""
    before = b"" if schedule.rev == 1 else _head(schedule.id, schedule.rev - 1)
    if schedule.removed:
        return schedule.name, before, b"", ""
    value = _head(schedule.id, schedule.rev) + encode_schedule(schedule)
    return schedule.name, before, value, "" if schedule.due is None else repr(schedule.due)


def read(values: Iterable[bytes]) -> list[Schedule]:
    """What ``schedules.lua`` or ``due.lua`` found."""
    return [decode_schedule(value[HEAD:]) for value in values]


def by_name(schedules: Sequence[Schedule]) -> list[Schedule]:
    """Sorted as every store sorts them."""
    return sorted(schedules, key=lambda schedule: schedule.name.encode())


def _head(schedule_id: str, rev: int) -> bytes:
    return struct.pack(">36sI", schedule_id.encode(), rev)
