"""Schedules as requests and files say them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field
from msgspec.structs import replace

from raincheck.core.codec import to_json
from raincheck.core.errors import Fault, InvalidFile, InvalidInput
from raincheck.core.model import Schedule
from raincheck.engine.requests import Stages, decoded, with_long_names
from raincheck.engine.schedules.definition import ScheduleOptions, define
from raincheck.engine.validation import Validator
from raincheck.engine.yaml_document import Document
from raincheck.functions.signature import escape

SECTION = "/schedules"


class ScheduleRequest(ScheduleOptions, frozen=True, forbid_unknown_fields=True):
    """When a schedule fires, by ``cron`` in a ``zone`` or ``every`` so many seconds, and the job it makes.

    ``functions``, ``data``, ``priority`` and ``result_ttl`` are the job's, which must end in ``expires_in``
    seconds; or it triggers a ``group``, with ``data``.
    """

    functions: Stages = field(default_factory=list)
    paused: bool | None = None


decode_schedule = msgspec.json.Decoder(ScheduleRequest).decode


def in_file(document: Document, validator: Validator, now: float) -> list[Schedule]:
    """The schedules that a file declares, by name. Raises `InvalidFile` with every fault found."""
    section = (document.data or {}).get("schedules") or {}
    if not isinstance(section, dict):
        raise InvalidFile(document.locate(Fault("expected a mapping of schedules by name", SECTION)))
    made, faults = [], []
    for name, plain in section.items():
        try:
            asked = decoded(decode_schedule, to_json(_written_out(plain)))
            schedule = define(name, asked.functions, asked, validator, now, "file")
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
    """A schedule as a request says it."""
    if not isinstance(plain, dict) or "functions" not in plain:
        return plain
    return {**plain, "functions": with_long_names(plain["functions"])}
