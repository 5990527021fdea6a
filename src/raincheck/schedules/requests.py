"""Schedules as requests and files say them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field
from msgspec.structs import replace

from raincheck.codec import to_json
from raincheck.errors import Fault, InvalidFile, InvalidInput
from raincheck.model import LONGEST, CatchUp, Schedule, Seconds
from raincheck.requests import Object, Priority, Stages, Timeout, check_containers, decoded, steps_of
from raincheck.schedules.definition import GRACE, define
from raincheck.schedules.timetable import CRON_LENGTH, SHORTEST
from raincheck.signature import escape
from raincheck.yamlfile import Document

SECTION = "/schedules"

Interval = Annotated[float, Meta(ge=SHORTEST, le=LONGEST)]


class ScheduleRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """When a schedule fires, by ``cron`` in a ``zone`` or ``every`` so many seconds, and the job it makes.

    ``functions``, ``data``, ``priority`` and ``result_ttl`` are the job's, which must end in ``expires_in``
    seconds; or it triggers a ``group``, with ``data``.
    """

    functions: Stages = field(default_factory=list)
    group: str | None = None
    cron: Annotated[str, Meta(max_length=CRON_LENGTH)] | None = None
    zone: Annotated[str, Meta(max_length=100)] | None = None
    every: Interval | None = None
    data: Object = field(default_factory=partial(Raw, b"{}"))
    priority: Priority = 0
    expires_in: Timeout | None = None
    result_ttl: Seconds | None = None
    catch_up: CatchUp = CatchUp.LATEST
    grace: Seconds = GRACE
    paused: bool | None = None


_decode = msgspec.json.Decoder(ScheduleRequest).decode


def in_file(document: Document, **context: Any) -> list[Schedule]:
    """The schedules that a file declares, by name. Raises `InvalidFile` with every fault found."""
    section = (document.data or {}).get("schedules") or {}
    if not isinstance(section, dict):
        raise InvalidFile(document.locate(Fault("expected a mapping of schedules by name", SECTION)))
    made, faults = [], []
    for name, plain in section.items():
        try:
            asked = asked_for(to_json(_written_out(plain)))
            schedule = defined(name, asked, source="file", **context)
            made.append(replace(schedule, paused=bool(asked.paused)))
        except InvalidInput as error:
            faults += [fault._replace(pointer=pointer_to(name) + fault.pointer) for fault in error.faults]
    if faults:
        raise InvalidFile(*map(document.locate, faults))
    return made


def pointer_to(name: str) -> str:
    """Where a file declares a schedule."""
    return f"{SECTION}/{escape(name)}"


def _written_out(plain: Any) -> Any:
    """A schedule as a request says it: in a file a function may be its name alone."""
    functions = plain.get("functions") if isinstance(plain, dict) else None
    if not isinstance(functions, list):
        return plain
    return {**plain, "functions": [_function(entry) for entry in functions]}


def _function(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_function(each) for each in entry]
    return {"name": entry} if isinstance(entry, str) else entry


def asked_for(body: bytes) -> ScheduleRequest:
    """The schedule that JSON asks for. Raises `InvalidInput`."""
    asked = decoded(_decode, body)
    check_containers(asked.data, asked.functions)
    return asked


def defined(name: str, asked: ScheduleRequest, **context: Any) -> Schedule:
    """The schedule that is asked for; ``context`` is the rest of what `define` wants."""
    return define(
        name,
        steps_of(asked.functions),
        group=asked.group,
        cron=asked.cron,
        zone=asked.zone,
        every=asked.every,
        data=bytes(asked.data),
        priority=asked.priority,
        expires_in=asked.expires_in,
        result_ttl=asked.result_ttl,
        catch_up=asked.catch_up,
        grace=asked.grace,
        **context,
    )
