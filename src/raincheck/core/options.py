"""The options of a job: one value that Python, HTTP, the client, YAML and schedules pass on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

from msgspec import Meta, Raw, Struct, field

from raincheck.core.codec import to_json
from raincheck.core.model import Seconds

__all__ = [
    "MAX_PRIORITY",
    "JobKeywords",
    "JobOptions",
    "Moment",
    "Object",
    "Priority",
    "TemplateKeywords",
    "TemplateOptions",
    "job_options",
    "template_options",
]

MAX_PRIORITY = 1000

Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Moment = Annotated[datetime, Meta(tz=True)]
Object = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
"""A JSON object, undecoded. The type alone does not check it: see `raincheck.engine.validation`."""

EMPTY = Raw(b"{}")


def empty_object() -> Raw:
    """The data of a job that is given none."""
    return EMPTY


class TemplateOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options that do not depend on when the job is made: groups and schedules have them, too.

    ``result_ttl`` is seconds; a higher ``priority`` goes first.
    """

    data: Object = field(default_factory=empty_object)
    priority: Priority = 0
    result_ttl: Seconds | None = None


class JobOptions(TemplateOptions, frozen=True, kw_only=True, omit_defaults=True):
    """All options of a job. ``delay`` is seconds from now; it and ``scheduled_at`` exclude each other."""

    delay: Seconds | None = None
    scheduled_at: Moment | None = None
    expires_at: Moment | None = None


class TemplateKeywords(TypedDict, total=False):
    """`TemplateOptions` as keyword arguments; ``data`` is a mapping of values that JSON can carry."""

    data: Mapping[str, Any] | None
    priority: int
    result_ttl: float | None


class JobKeywords(TemplateKeywords, total=False):
    """`JobOptions` as keyword arguments; a naive date is taken as UTC."""

    delay: float | None
    scheduled_at: datetime | None
    expires_at: datetime | None


def template_options(given: TemplateKeywords) -> TemplateOptions:
    """Keyword arguments as options. Raises `NotJSON` for data that JSON cannot carry."""
    fields: dict[str, Any] = {**given, "data": object_of(given.get("data"))}
    return TemplateOptions(**fields)


def job_options(given: JobKeywords) -> JobOptions:
    """Keyword arguments as options. Raises `NotJSON` for data that JSON cannot carry."""
    fields: dict[str, Any] = {**given, "data": object_of(given.get("data"))}
    for name in ("scheduled_at", "expires_at"):
        fields[name] = _aware(fields.get(name))
    return JobOptions(**fields)


def object_of(data: Mapping[str, Any] | None) -> Raw:
    """A mapping as a JSON object. Raises `NotJSON`."""
    return Raw(to_json(data)) if data else EMPTY


def _aware(moment: Any) -> datetime | None:
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment
