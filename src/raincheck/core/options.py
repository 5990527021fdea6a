"""The options of a job: one value for Python, HTTP, the client, YAML and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

from msgspec import Meta, Raw, Struct, field

from raincheck.core.codec import Writer, to_json
from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import Seconds
from raincheck.core.text import seconds_detail, short

__all__ = [
    "MAX_PRIORITY",
    "NO_OPTIONS",
    "JobKeywords",
    "JobOptions",
    "Moment",
    "Object",
    "Priority",
    "TemplateKeywords",
    "TemplateOptions",
    "check_options",
    "job_options",
    "template_options",
]

MAX_PRIORITY = 1000

Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Moment = Annotated[datetime, Meta(tz=True)]
Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
"""A JSON object that is not decoded. `raincheck.engine.validation` checks that it is an object."""

EMPTY = Raw(b"{}")


def empty_object() -> Raw:
    """The default of ``data``: an empty JSON object."""
    return EMPTY


class TemplateOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options that do not depend on the time of submission; groups and schedules have them too.

    ``result_ttl`` is in seconds; jobs with a higher ``priority`` run first.
    """

    data: Object = field(default_factory=empty_object)
    priority: Priority = 0
    result_ttl: Seconds | None = None


class JobOptions(TemplateOptions, frozen=True, kw_only=True, omit_defaults=True):
    """All options of a job. ``delay`` is in seconds from now; use it or ``scheduled_at``, not both."""

    delay: Seconds | None = None
    scheduled_at: Moment | None = None
    expires_at: Moment | None = None


_SECONDS = ("delay", "result_ttl", "every", "expires_in", "grace")
"""The options of jobs and schedules that are seconds."""

NO_OPTIONS = JobOptions()
"""The options of a job that is submitted without any."""


class TemplateKeywords(TypedDict, total=False):
    """`TemplateOptions` as keyword arguments; ``data`` is a mapping with JSON-serializable values."""

    data: Mapping[str, Any] | None
    priority: int
    result_ttl: float | None


class JobKeywords(TemplateKeywords, total=False):
    """`JobOptions` as keyword arguments; a naive date is taken as UTC."""

    delay: float | None
    scheduled_at: datetime | None
    expires_at: datetime | None


def template_options(given: TemplateKeywords, to_json: Writer = to_json) -> TemplateOptions:
    """Keyword arguments as options; ``to_json`` writes the data. Raises `InvalidInput` or `NotJSON`."""
    fields: dict[str, Any] = {**given, "data": object_of(given.get("data"), to_json)}
    check_options(fields, TemplateOptions)
    return TemplateOptions(**fields)


def job_options(given: JobKeywords, to_json: Writer = to_json) -> JobOptions:
    """Keyword arguments as options; ``to_json`` writes the data. Raises `InvalidInput` or `NotJSON`."""
    if not given:
        return NO_OPTIONS
    fields: dict[str, Any] = {**given, "data": object_of(given.get("data"), to_json)}
    for name in ("scheduled_at", "expires_at"):
        fields[name] = _aware(fields.get(name))
    check_options(fields, JobOptions)
    return JobOptions(**fields)


def check_options(fields: Mapping[str, Any], kind: type[Struct]) -> None:
    """Raise `InvalidInput` for options of the wrong type, which a ``kind`` that is made in Python takes.

    Raises `TypeError` for options that it does not have.
    """
    faults = []
    for name, value in fields.items():
        if name not in kind.__struct_fields__:
            known = ", ".join(sorted(kind.__struct_fields__))
            raise TypeError(f"there is no option {name!r}: the options are {known}")
        if value is None:
            continue
        detail = None
        if name in _SECONDS:
            detail = seconds_detail(value)
        elif name == "priority" and (not isinstance(value, int) or isinstance(value, bool)):
            detail = f"must be an integer, got {short(value)}"
        elif name in ("scheduled_at", "expires_at") and not isinstance(value, datetime):
            detail = f"must be a datetime, got {short(value)}"
        if detail is not None:
            faults.append(Fault(f"{name} {detail}", f"/{name}"))
    if faults:
        raise InvalidInput(*faults)


def object_of(data: Mapping[str, Any] | None, to_json: Writer = to_json) -> Raw:
    """A mapping as a JSON object. Raises `NotJSON`."""
    return Raw(to_json(data)) if data else EMPTY


def _aware(moment: Any) -> datetime | None:
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment
