"""Definitions of schedules: checked, and declared in code or in the configuration file.

Servers and workers put the schedules that an app declares when they start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field
from msgspec.structs import replace

from raincheck.core.codec import Writer, encode_schedule, to_json
from raincheck.core.errors import Fault, InvalidFile, InvalidInput, RegistrationError
from raincheck.core.model import MAX_SECONDS, CatchUp, Job, Schedule, Seconds
from raincheck.core.options import JobOptions, TemplateKeywords, TemplateOptions, check_options, object_of
from raincheck.engine.config_file import ConfigFile
from raincheck.engine.groups.definitions import Groups, is_group_name
from raincheck.engine.requests import Stages, Timeout, decoded, with_long_names
from raincheck.engine.schedules.timetable import CRON_LENGTH, SHORTEST, Rhythm, faults_of
from raincheck.engine.validation import AnyStages, Validator, object_faults
from raincheck.functions.signature import escape

SECTION = "/schedules"

NAME_LENGTH = 100
NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:@-]*")

GRACE = 60.0
"""The default of ``grace``: the seconds that a firing can be late and still count as on time."""

Interval = Annotated[float, Meta(ge=SHORTEST, le=MAX_SECONDS)]


class ScheduleOptions(TemplateOptions, frozen=True, kw_only=True, omit_defaults=False):
    """The options of a schedule, as `ScheduleRequest` describes them."""

    group: str | None = None
    cron: Annotated[str, Meta(max_length=CRON_LENGTH)] | None = None
    zone: Annotated[str, Meta(max_length=100)] | None = None
    every: Interval | None = None
    expires_in: Timeout | None = None
    catch_up: CatchUp = CatchUp.LATEST
    grace: Seconds = GRACE


class ScheduleRequest(ScheduleOptions, frozen=True, forbid_unknown_fields=True):
    """When a schedule fires (``cron`` in a ``zone``, or ``every`` number of seconds), and what it submits.

    It submits a job with ``functions``, ``data``, ``priority`` and ``result_ttl``, which must end within
    ``expires_in`` seconds; or it triggers a ``group`` with ``data``.
    """

    functions: Stages = field(default_factory=list)
    paused: bool | None = None


decode_schedule = msgspec.json.Decoder(ScheduleRequest).decode


class ScheduleKeywords(TemplateKeywords, total=False):
    """`ScheduleOptions` as keyword arguments."""

    group: str | None
    cron: str | None
    zone: str | None
    every: float | None
    expires_in: float | None
    catch_up: str
    grace: float


def schedule_options(keywords: ScheduleKeywords, to_json: Writer = to_json) -> ScheduleOptions:
    """Keyword arguments as options; ``to_json`` writes the data. Raises `InvalidInput` or `NotJSON`."""
    fields: dict[str, Any] = {**keywords, "data": object_of(keywords.get("data"), to_json)}
    check_options(fields, ScheduleOptions)
    return ScheduleOptions(**fields)


def define(
    name: str,
    stages: AnyStages,
    options: ScheduleOptions,
    validator: Validator,
    now: float,
    source: str = "api",
) -> Schedule:
    """The schedule of a request or a declaration. Raises `InvalidInput` with every fault.

    Arguments are checked if this process knows the functions. The steps do not get the options of their
    functions: each job takes the options that hold when it runs.
    """
    rhythm = Rhythm(options.cron, "UTC" if options.zone is None else options.zone, options.every)
    faults = [*_faults(name, options), *faults_of(rhythm, now)]
    try:
        if options.group is None:
            shared = JobOptions(data=options.data, priority=options.priority, result_ttl=options.result_ttl)
            job = validator.draft(name, stages, shared, now, fill=False)
        else:
            job = _group_job(name, stages, options)
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


def _group_job(name: str, stages: AnyStages, options: ScheduleOptions) -> Job:
    """The template of a schedule that triggers a group: its data. The group has the rest."""
    faults = [Fault("functions and group exclude each other", "/group")] if stages else []
    of_group = {"priority": options.priority, "result_ttl": options.result_ttl}
    faults += [Fault("set it on the group instead", f"/{key}") for key, value in of_group.items() if value]
    faults += object_faults(options.data, "/data")
    faults += [] if is_group_name(options.group or "") else [Fault("is not a valid group name", "/group")]
    if faults:
        raise InvalidInput(*faults)
    return Job("", name, (), data=bytes(options.data))


def is_schedule_name(name: str) -> bool:
    """Whether a name may be a schedule's: one segment of a path."""
    return len(name) <= NAME_LENGTH and NAME.fullmatch(name) is not None


def _faults(name: str, options: ScheduleOptions) -> Iterator[Fault]:
    """The faults of a schedule's own fields."""
    if not is_schedule_name(name):
        yield Fault(
            f"must have 1 to {NAME_LENGTH} letters, digits or _ . : @ -, and no dot or dash at the start",
            "/name",
        )
    if options.zone is not None and options.cron is None:
        yield Fault("needs cron", "/zone")
    if options.expires_in is not None and not 0 < options.expires_in <= MAX_SECONDS:
        yield Fault(f"must be above 0 and at most {MAX_SECONDS:.0f} seconds", "/expires_in")
    if options.catch_up not in list(CatchUp):
        yield Fault(f"must be one of {', '.join(CatchUp)}", "/catch_up")
    if not 0 <= options.grace <= MAX_SECONDS:
        yield Fault(f"must be between 0 and {MAX_SECONDS:.0f} seconds", "/grace")


def schedules_in(file: ConfigFile, validator: Validator, now: float) -> list[Schedule]:
    """The schedules that a file declares. Raises `InvalidFile` with every fault."""
    section = (file.data or {}).get("schedules") or {}
    if not isinstance(section, dict):
        raise InvalidFile(file.locate(Fault("expected a mapping of schedules by name", SECTION)))
    schedules, faults = [], []
    for name, plain in section.items():
        if isinstance(plain, dict) and "functions" in plain:
            plain = {**plain, "functions": with_long_names(plain["functions"])}
        try:
            request = decoded(decode_schedule, to_json(plain))
            schedule = define(name, request.functions, request, validator, now, "file")
            schedules.append(replace(schedule, paused=bool(request.paused)))
        except InvalidInput as error:
            faults += [fault._replace(pointer=_pointer(name) + fault.pointer) for fault in error.faults]
    if faults:
        raise InvalidFile(*map(file.locate, faults))
    return schedules


def _pointer(name: str) -> str:
    return f"{SECTION}/{escape(name)}"


class DeclaredSchedules:
    """The schedules that one app declares."""

    def __init__(self, groups: Groups, validator: Validator) -> None:
        self._groups = groups
        self._validator = validator
        self._in_code: list[Schedule] = []
        self._in_file: list[Schedule] = []

    def __iter__(self) -> Iterator[Schedule]:
        return iter([*self._in_code, *self._in_file])

    def add(self, schedule: Schedule) -> None:
        """Declare a schedule in code. Raises `RegistrationError` if its name is taken."""
        if any(other.name == schedule.name for other in self._in_code):
            raise RegistrationError(f"schedule {schedule.name}: is already declared: use another name")
        self._in_code.append(_with_fingerprint(schedule))

    def read(self, file: ConfigFile | None, now: float) -> None:
        """Replace the schedules of the file. Raises `InvalidFile` or `RegistrationError`."""
        in_file = [] if file is None else schedules_in(file, self._validator, now)
        self._in_file = [_with_fingerprint(each) for each in in_file]
        in_code = {each.name: each for each in self._in_code}
        for name, each in in_code.items():
            for fault in self._group_faults(each):
                raise RegistrationError(f"schedule {name}: {fault.detail}")
        faults = [Fault("is also declared in code", _pointer(e.name)) for e in in_file if e.name in in_code]
        for each in in_file:
            faults += [
                Fault(detail, _pointer(each.name) + pointer) for detail, pointer in self._group_faults(each)
            ]
        if faults and file is not None:
            raise InvalidFile(*map(file.locate, faults))

    def check(self, schedule: Schedule) -> None:
        """Raise `InvalidInput` if this app does not have the group that a schedule triggers."""
        faults = self._group_faults(schedule)
        if faults:
            raise InvalidInput(*faults)

    def _group_faults(self, schedule: Schedule) -> list[Fault]:
        if schedule.group is None or schedule.group in self._groups:
            return []
        return [Fault(f"this app has no group named {schedule.group!r}", "/group")]


def _with_fingerprint(schedule: Schedule) -> Schedule:
    """A declared schedule with its fingerprint, which changes when the declaration changes."""
    return replace(schedule, declared=hashlib.blake2b(encode_schedule(schedule), digest_size=16).digest())
