"""When schedules fire: pure arithmetic, with the same result in every process.

The firings of a schedule are a fixed set of times, which follow from its cron expression and zone, or from
its interval. When clocks change, cron expressions behave as in Debian's cron (docs/decisions/0014).
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from raincheck.core.clock import to_datetime
from raincheck.core.errors import Fault
from raincheck.core.model import MAX_SECONDS, CatchUp, Schedule

MOST = 100
"""Firings that are made up for at once: the newest of those missed in a long outage."""

SHORTEST = 1.0
"""The shortest interval in seconds."""

CRON_LENGTH = 200

_HOUR = 3600.0
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)*")
"""Names of the IANA database. The folder of zones has other files too, which differ between machines."""


class Rhythm(NamedTuple):
    """When a schedule fires: by a ``cron`` expression in a ``zone``, or ``every`` number of seconds."""

    cron: str | None
    zone: str
    every: float | None
    anchor: float = 0.0


class Plan(NamedTuple):
    """The firings to make now, oldest first, the number of firings to skip, and the next firing."""

    firings: list[float]
    missed: int
    next: float | None


def faults_of(rhythm: Rhythm, now: float) -> Iterator[Fault]:
    """The faults of a rhythm."""
    if (rhythm.cron is None) == (rhythm.every is None):
        yield Fault("set either cron or every", "/cron" if rhythm.every is None else "/every")
    if rhythm.every is not None and not SHORTEST <= rhythm.every <= MAX_SECONDS:
        yield Fault(f"must be between {SHORTEST:g} and {MAX_SECONDS:.0f} seconds", "/every")
    if rhythm.cron is not None:
        yield from list(_zone_faults(rhythm.zone)) or _cron_faults(rhythm, now)


def _zone_faults(zone: str) -> Iterator[Fault]:
    if not _ZONE.fullmatch(zone):
        yield Fault("is not an IANA time zone: use a name like Europe/Paris", "/zone")
        return
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # none of that name; a folder of zones
        yield Fault(
            f"{zone[:50]} is unknown: use a name like Europe/Paris; if it is one, pip install tzdata", "/zone"
        )


def _cron_faults(rhythm: Rhythm, now: float) -> Iterator[Fault]:
    from cronsim import CronSimError

    expression = rhythm.cron or ""
    if len(expression) > CRON_LENGTH:
        yield Fault(f"can have at most {CRON_LENGTH} characters", "/cron")
    elif len(expression.split()) != 5:
        yield Fault("needs five fields: minute, hour, day of month, month, day of week", "/cron")
    else:
        try:
            if after(rhythm, now) is None:
                yield Fault("never fires within the next fifty years", "/cron")
        except (CronSimError, ValueError) as error:
            yield Fault(f"is not a cron expression: {str(error)[:100]}", "/cron")


def rhythm_of(schedule: Schedule) -> Rhythm:
    """The rhythm of a schedule."""
    return Rhythm(schedule.cron, schedule.zone, schedule.every, schedule.anchor)


def after(rhythm: Rhythm, since: float) -> float | None:
    """The first firing after a time; None if there is none."""
    return next(firings(rhythm, since), None)


def firings(rhythm: Rhythm, since: float) -> Iterator[float]:
    """All firings after a time, in order, each once."""
    return _interval(rhythm, since) if rhythm.cron is None else _cron(rhythm, since)


def _interval(rhythm: Rhythm, since: float) -> Iterator[float]:
    """Multiples of the interval after the anchor, in whole milliseconds, so that they do not drift."""
    start, step = round(rhythm.anchor * 1000), round((rhythm.every or 0.0) * 1000)
    n = max(1, int((since - rhythm.anchor) * 1000 / step) - 1)  # or one or two before it
    while True:
        firing = (start + n * step) / 1000
        if firing > since:
            yield firing
        n += 1


def _cron(rhythm: Rhythm, since: float) -> Iterator[float]:
    """The firings of a cron expression, without duplicates: those in a skipped hour fire once, together."""
    from cronsim import CronSim

    latest = since
    for local in CronSim(rhythm.cron or "", _local(since, rhythm.zone)):
        firing = local.timestamp()
        if firing > latest:
            latest = firing
            yield firing


def _local(since: float, zone: str) -> datetime:
    return to_datetime(math.floor(since)).astimezone(ZoneInfo(zone))


def plan(schedule: Schedule, now: float) -> Plan:
    """What to do for a schedule that is due: make all firings that are on time, and of the late ones those
    that its ``catch_up`` selects.
    """
    due = _due(schedule, now)
    on_time = [firing for firing in due if now - firing <= schedule.grace]
    selected = on_time
    if schedule.catch_up is CatchUp.ALL:
        selected = due
    elif schedule.catch_up is CatchUp.LATEST and not on_time:
        selected = due[-1:]
    return Plan(selected, len(due) - len(selected), after(rhythm_of(schedule), now))


def _due(schedule: Schedule, now: float) -> list[float]:
    """The firings from the next one until now, oldest first; the newest `MOST` of them.

    Reads back further and further, so that the cost does not depend on the length of an outage.
    """
    first, back = schedule.next, _HOUR
    if first is None or first > now:
        return []
    rhythm = rhythm_of(schedule)
    while True:
        since = max(first, now - back)
        newest = deque(takewhile(lambda firing: firing <= now, firings(rhythm, since)), MOST)
        if since == first and len(newest) < MOST:
            newest.appendleft(first)
        if since == first or len(newest) == MOST:
            return list(newest)
        back *= 4
