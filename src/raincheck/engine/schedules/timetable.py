"""When schedules fire: pure arithmetic, the same for whoever does it.

The firings of a schedule are a fixed set of moments, from its cron expression in its zone or from its
interval; what is asked here is which of them lie where. Cron follows Debian's cron on the nights when
clocks change (docs/decisions/0014).
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
"""How many firings are made at once: of those missed in a long outage, the newest."""

SHORTEST = 1.0
"""Seconds; no interval is shorter."""

CRON_LENGTH = 200

_HOUR = 3600.0
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)*")
"""Names of the IANA database; what else is in a folder of zones differs from machine to machine."""


class Rhythm(NamedTuple):
    """What says when a schedule fires: a ``cron`` expression in a ``zone``, or ``every`` so many seconds."""

    cron: str | None
    zone: str
    every: float | None
    anchor: float = 0.0


class Plan(NamedTuple):
    """The firings to be made now, oldest first, how many are left out, and the first one to come."""

    firings: list[float]
    missed: int
    next: float | None


def faults_of(rhythm: Rhythm, now: float) -> Iterator[Fault]:
    """What is wrong with a rhythm."""
    if (rhythm.cron is None) == (rhythm.every is None):
        yield Fault("a schedule has either cron or every", "/cron" if rhythm.every is None else "/every")
    if rhythm.every is not None and not SHORTEST <= rhythm.every <= MAX_SECONDS:
        yield Fault(f"lies between {SHORTEST:g} and {MAX_SECONDS:.0f} seconds", "/every")
    if rhythm.cron is not None:
        yield from list(_zone_faults(rhythm.zone)) or _cron_faults(rhythm, now)


def _zone_faults(zone: str) -> Iterator[Fault]:
    if not _ZONE.fullmatch(zone):
        yield Fault("is not the name of an IANA time zone, as Europe/Paris is", "/zone")
        return
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # none of that name; a folder of zones
        yield Fault(
            f"{zone[:50]} is not known here: a zone is Europe/Paris; its data: pip install tzdata", "/zone"
        )


def _cron_faults(rhythm: Rhythm, now: float) -> Iterator[Fault]:
    from cronsim import CronSimError

    expression = rhythm.cron or ""
    if len(expression) > CRON_LENGTH:
        yield Fault(f"has at most {CRON_LENGTH} characters", "/cron")
    elif len(expression.split()) != 5:
        yield Fault("has five fields: minute, hour, day of month, month, day of week", "/cron")
    else:
        try:
            if after(rhythm, now) is None:
                yield Fault("never comes within the next fifty years", "/cron")
        except (CronSimError, ValueError) as error:
            yield Fault(f"is no cron expression: {str(error)[:100]}", "/cron")


def rhythm_of(schedule: Schedule) -> Rhythm:
    """The rhythm of a schedule."""
    return Rhythm(schedule.cron, schedule.zone, schedule.every, schedule.anchor)


def after(rhythm: Rhythm, moment: float) -> float | None:
    """The first firing after a moment; None: there is none any more."""
    return next(firings(rhythm, moment), None)


def firings(rhythm: Rhythm, moment: float) -> Iterator[float]:
    """All firings after a moment, in order, each once."""
    return _interval(rhythm, moment) if rhythm.cron is None else _cron(rhythm, moment)


def _interval(rhythm: Rhythm, moment: float) -> Iterator[float]:
    """Multiples of the interval after the anchor, in whole milliseconds, so that they never drift."""
    start, step = round(rhythm.anchor * 1000), round((rhythm.every or 0.0) * 1000)
    n = max(1, int((moment - rhythm.anchor) * 1000 / step) - 1)  # or one or two too early
    while True:
        firing = (start + n * step) / 1000
        if firing > moment:
            yield firing
        n += 1


def _cron(rhythm: Rhythm, moment: float) -> Iterator[float]:
    """What the parser gives, without what it gives twice: firings skipped together fire as one."""
    from cronsim import CronSim

    latest = moment
    for local in CronSim(rhythm.cron or "", _local(moment, rhythm.zone)):
        firing = local.timestamp()
        if firing > latest:
            latest = firing
            yield firing


def _local(moment: float, zone: str) -> datetime:
    return to_datetime(math.floor(moment)).astimezone(ZoneInfo(zone))


def plan(schedule: Schedule, now: float) -> Plan:
    """What is to be done about a schedule that is due: every firing that is on time is made.

    Of the others, its ``catch_up`` says what becomes of them.
    """
    come = _come(schedule, now)
    on_time = [firing for firing in come if now - firing <= schedule.grace]
    late = come[: len(come) - len(on_time)]
    made = on_time
    if schedule.catch_up is CatchUp.ALL:
        made = come
    elif schedule.catch_up is CatchUp.LATEST and not on_time:
        made = late[-1:]
    return Plan(made, len(come) - len(made), after(rhythm_of(schedule), now))


def _come(schedule: Schedule, now: float) -> list[float]:
    """The firings from the next one on that have come, oldest first; of very many the newest.

    Looks back further and further, so that the cost does not depend on how long nobody looked.
    """
    first, back = schedule.next, _HOUR
    if first is None or first > now:
        return []
    rhythm = rhythm_of(schedule)
    while True:
        since = max(first, now - back)
        found = deque(takewhile(lambda firing: firing <= now, firings(rhythm, since)), MOST)
        if since == first and len(found) < MOST:
            found.appendleft(first)
        if since == first or len(found) == MOST:
            return list(found)
        back *= 4
