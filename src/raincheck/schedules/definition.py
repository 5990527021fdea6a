"""From what a caller says of a schedule to its record: every check that comes before it is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from msgspec.structs import replace

from raincheck.errors import Fault, InvalidInput
from raincheck.functions import Functions
from raincheck.groups.definition import is_group_name
from raincheck.limits import Limits
from raincheck.model import LONGEST, CatchUp, Job, Schedule
from raincheck.schedules.timetable import Rhythm, faults_of
from raincheck.submission import Stages, draft

NAME_LENGTH = 100
NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:@-]*")

GRACE = 60.0
"""Seconds that a firing may be late and still be on time, unless the schedule says otherwise."""

_UNKNOWN = Functions()


def define(
    name: str,
    functions: Stages = (),
    *,
    group: str | None = None,
    cron: str | None = None,
    zone: str | None = None,
    every: float | None = None,
    data: bytes = b"{}",
    priority: int = 0,
    expires_in: float | None = None,
    result_ttl: float | None = None,
    catch_up: str = CatchUp.LATEST,
    grace: float = GRACE,
    source: str = "api",
    now: float,
    known: Functions,
    limits: Limits,
) -> Schedule:
    """A schedule that may be put. Raises `InvalidInput` with every fault found.

    It submits ``functions``, or triggers a ``group``. Arguments are checked against the functions ``known``
    here; the steps are kept without those functions' options: a job takes them as they are when it runs.
    """
    rhythm = Rhythm(cron, "UTC" if zone is None else zone, every)
    faults = [*_faults(name, cron, zone, expires_in, catch_up, grace), *faults_of(rhythm, now)]
    whole = partial(
        draft, name, functions, data=data, now=now, priority=priority, result_ttl=result_ttl, limits=limits
    )
    try:
        job = _template(whole, known) if group is None else _only_data(whole, group)
    except InvalidInput as error:
        if not faults:
            raise
        raise InvalidInput(*faults, *(fault for fault in error.faults if fault.pointer != "/name")) from None
    if faults:
        raise InvalidInput(*faults)
    return Schedule(
        name,
        replace(job, id="", schedule=name),
        cron=cron,
        zone=rhythm.zone,
        every=every,
        catch_up=CatchUp(catch_up),
        grace=grace,
        expires_in=expires_in,
        source=source,
        group=group,
    )


def _template(whole: Callable[..., Job], known: Functions) -> Job:
    """The job of each firing, checked with the functions known, and kept without their options."""
    whole(functions=known)
    return whole(functions=_UNKNOWN)


def _only_data(whole: partial[Job], group: str) -> Job:
    """The data that each run of a group is given; all else is the group's."""
    name, functions, given = *whole.args, whole.keywords
    faults = [Fault("a schedule has either functions or a group", "/group")] if functions else []
    faults += [Fault("is the group's", f"/{key}") for key in ("priority", "result_ttl") if given[key]]
    faults += [] if given["data"][:1] == b"{" else [Fault("expected an object", "/data")]
    faults += [] if is_group_name(group) else [Fault("cannot be a group's name", "/group")]
    if faults:
        raise InvalidInput(*faults)
    return Job("", name, (), data=given["data"])


_ALLOWED = "letters, digits, _ . : @ -, the first neither a dot nor a dash"


def is_schedule_name(name: str) -> bool:
    """Whether a name may be a schedule's: one segment of a path."""
    return len(name) <= NAME_LENGTH and NAME.fullmatch(name) is not None


def _faults(
    name: str, cron: str | None, zone: str | None, expires_in: float | None, catch_up: str, grace: float
) -> Iterator[Fault]:
    """What is wrong with a schedule beside its rhythm and its job."""
    if not is_schedule_name(name):
        yield Fault(f"has 1 to {NAME_LENGTH} characters: {_ALLOWED}", "/name")
    if zone is not None and cron is None:
        yield Fault("goes with cron only", "/zone")
    if expires_in is not None and not 0 < expires_in <= LONGEST:
        yield Fault(f"lies above 0, up to {LONGEST:.0f} seconds", "/expires_in")
    if catch_up not in list(CatchUp):
        yield Fault(f"is one of {', '.join(CatchUp)}", "/catch_up")
    if not 0 <= grace <= LONGEST:
        yield Fault(f"lies between 0 and {LONGEST:.0f} seconds", "/grace")
