"""From what a caller says of a schedule to its record: every check that comes before it is accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import MAX_SECONDS, CatchUp, Job, Schedule, Seconds
from raincheck.core.options import JobOptions, TemplateKeywords, TemplateOptions, object_of
from raincheck.engine.groups.definition import is_group_name
from raincheck.engine.requests import Timeout
from raincheck.engine.schedules.timetable import CRON_LENGTH, SHORTEST, Rhythm, faults_of
from raincheck.engine.validation import AnyStages, Validator, object_faults

NAME_LENGTH = 100
NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:@-]*")

GRACE = 60.0
"""Seconds that a firing may be late and still be on time, unless the schedule says otherwise."""

Interval = Annotated[float, Meta(ge=SHORTEST, le=MAX_SECONDS)]


class ScheduleOptions(TemplateOptions, frozen=True, kw_only=True, omit_defaults=False):
    """When a schedule fires, by ``cron`` in a ``zone`` or ``every`` so many seconds, and the job it makes.

    ``functions``, ``data``, ``priority`` and ``result_ttl`` are the job's, which must end in ``expires_in``
    seconds; or it triggers a ``group``, with ``data``.
    """

    group: str | None = None
    cron: Annotated[str, Meta(max_length=CRON_LENGTH)] | None = None
    zone: Annotated[str, Meta(max_length=100)] | None = None
    every: Interval | None = None
    expires_in: Timeout | None = None
    catch_up: CatchUp = CatchUp.LATEST
    grace: Seconds = GRACE


class ScheduleKeywords(TemplateKeywords, total=False):
    """`ScheduleOptions` as keyword arguments."""

    group: str | None
    cron: str | None
    zone: str | None
    every: float | None
    expires_in: float | None
    catch_up: str
    grace: float


def schedule_options(given: ScheduleKeywords) -> ScheduleOptions:
    """Keyword arguments as options. Raises `NotJSON` for data that JSON cannot carry."""
    fields: dict[str, Any] = {**given, "data": object_of(given.get("data"))}
    return ScheduleOptions(**fields)


def define(
    name: str,
    stages: AnyStages,
    options: ScheduleOptions,
    validator: Validator,
    now: float,
    source: str = "api",
) -> Schedule:
    """A schedule that may be put. Raises `InvalidInput` with every fault found.

    It submits the functions of ``stages``, or triggers a group. Arguments are checked against the functions
    known here. The steps are kept without those functions' options: a job takes them when it runs.
    """
    rhythm = Rhythm(options.cron, "UTC" if options.zone is None else options.zone, options.every)
    faults = [*_faults(name, options), *faults_of(rhythm, now)]
    try:
        if options.group is None:
            shared = JobOptions(data=options.data, priority=options.priority, result_ttl=options.result_ttl)
            job = validator.draft(name, stages, shared, now, fill=False)
        else:
            job = _only_data(name, stages, options)
    except InvalidInput as error:
        if not faults:
            raise
        raise InvalidInput(*faults, *(fault for fault in error.faults if fault.pointer != "/name")) from None
    if faults:
        raise InvalidInput(*faults)
    return Schedule(
        name,
        replace(job, id="", schedule=name),
        cron=options.cron,
        zone=rhythm.zone,
        every=options.every,
        catch_up=CatchUp(options.catch_up),
        grace=options.grace,
        expires_in=options.expires_in,
        source=source,
        group=options.group,
    )


def _only_data(name: str, stages: AnyStages, options: ScheduleOptions) -> Job:
    """The data that each run of a group is given; all else is the group's."""
    faults = [Fault("a schedule has either functions or a group", "/group")] if stages else []
    given = {"priority": options.priority, "result_ttl": options.result_ttl}
    faults += [Fault("is the group's", f"/{key}") for key, value in given.items() if value]
    faults += object_faults(options.data, "/data")
    faults += [] if is_group_name(options.group or "") else [Fault("cannot be a group's name", "/group")]
    if faults:
        raise InvalidInput(*faults)
    return Job("", name, (), data=bytes(options.data))


_ALLOWED = "letters, digits, _ . : @ -, the first neither a dot nor a dash"


def is_schedule_name(name: str) -> bool:
    """Whether a name may be a schedule's: one segment of a path."""
    return len(name) <= NAME_LENGTH and NAME.fullmatch(name) is not None


def _faults(name: str, options: ScheduleOptions) -> Iterator[Fault]:
    """What is wrong with a schedule beside its rhythm and its job."""
    if not is_schedule_name(name):
        yield Fault(f"has 1 to {NAME_LENGTH} characters: {_ALLOWED}", "/name")
    if options.zone is not None and options.cron is None:
        yield Fault("goes with cron only", "/zone")
    if options.expires_in is not None and not 0 < options.expires_in <= MAX_SECONDS:
        yield Fault(f"lies above 0, up to {MAX_SECONDS:.0f} seconds", "/expires_in")
    if options.catch_up not in list(CatchUp):
        yield Fault(f"is one of {', '.join(CatchUp)}", "/catch_up")
    if not 0 <= options.grace <= MAX_SECONDS:
        yield Fault(f"lies between 0 and {MAX_SECONDS:.0f} seconds", "/grace")
