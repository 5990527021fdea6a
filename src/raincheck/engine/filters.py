"""The filter of jobs as callers write it: for listings, and for operations on many jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from raincheck.core.clock import from_datetime
from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import State
from raincheck.core.options import Moment
from raincheck.core.text import UNITS
from raincheck.functions.signature import fault_of

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")
_OFFSET = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)

_ROUNDING = 0.5e-6
"""Seconds by which the date in a document can be after the time that it shows: `since` must find that job."""

Text = Annotated[str, Meta(min_length=1, max_length=1000)]
When = Annotated[
    str,
    Meta(
        min_length=1,
        description="A date with offset (RFC 3339), or a duration back from now: 90s, 15m, 1h, 7d, 2w.",
        extra_json_schema={"anyOf": [{"format": "date-time"}, {"pattern": f"^{_DURATION.pattern}$"}]},
    ),
]


class JobFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Jobs that match all given fields.

    ``state`` is one or several states. ``error`` is the name of the type of the job's error, such as
    ``timeout``, or of its exception, such as ``ValueError``. ``since`` and ``until`` limit the time of
    creation: from ``since`` on, and before ``until``.
    """

    state: State | tuple[State, ...] = ()
    name: Text = ""
    function: Text = ""
    group: Text = ""
    schedule: Text = ""
    error: Text = ""
    since: When = ""
    until: When = ""

    @property
    def states(self) -> tuple[State, ...]:
        """The states, each once; empty: all. Only failed jobs have an error."""
        states = (self.state,) if isinstance(self.state, State) else self.state
        if self.error and not states:
            return (State.FAILED,)
        return tuple(sorted(set(states)))

    @property
    def has_durations(self) -> bool:
        """Whether a time is counted back from now."""
        return any(_DURATION.fullmatch(each) for each in (self.since, self.until))

    def window(self, now: float, at: str = "") -> tuple[float | None, float | None]:
        """``since`` and ``until`` in seconds since the epoch, durations counted back from ``now``.

        Raises `InvalidInput`; ``at`` is the pointer to the filter.
        """
        since = _moment(self.since, now, f"{at}/since")
        until = _moment(self.until, now, f"{at}/until")
        if since is not None and until is not None and since >= until:
            raise InvalidInput(Fault("must be after `since`: no job can match", f"{at}/until"))
        return since, until


Order = Literal["newest", "oldest"]
"""Which jobs of a listing come first."""


class FilterKeywords(TypedDict, total=False):
    """`JobFilter` as keyword arguments; a naive date is in UTC, a timedelta counts back from now."""

    state: State | str | Sequence[State | str] | None
    name: str | None
    function: str | None
    group: str | None
    schedule: str | None
    error: str | None
    since: datetime | timedelta | str | None
    until: datetime | timedelta | str | None


MAX_BULK = 1000
"""Jobs that one request for many jobs can be about."""


class Operation(StrEnum):
    """What is done to all jobs that match a filter."""

    RETRY = "retry"
    CANCEL = "cancel"
    DELETE = "delete"

    @property
    def states(self) -> tuple[State, ...]:
        """The states of jobs that it can change."""
        if self is Operation.RETRY:
            return State.CANCELLED, State.FAILED
        return tuple(sorted(state for state in State if state.ended == (self is Operation.DELETE)))


class BulkRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An operation on the jobs that match ``filter``; an empty one needs ``all``.

    A request is about at most ``limit`` jobs; ``cursor`` continues with the next ones. With ``dry_run``
    jobs are only counted.
    """

    filter: JobFilter = JobFilter()
    all: bool = False
    dry_run: bool = False
    limit: Annotated[int, Meta(ge=1, le=MAX_BULK)] = 500
    cursor: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    def check(self) -> None:
        """Raise `InvalidInput` if the filter is empty by mistake."""
        if self.filter == JobFilter() and not self.all:
            raise InvalidInput(Fault("is empty: name at least one field, or set `all` to true", "/filter"))


class BulkResult(Struct, frozen=True, kw_only=True):
    """What an operation on many jobs did: jobs that matched, jobs that it changed, and others by reason.

    With ``dry_run`` nothing was changed, and ``changed`` counts the jobs that would be. The ``cursor``
    continues with the next jobs; null: there are none.
    """

    matched: int = 0
    changed: int = 0
    skipped: dict[str, int] = {}
    dry_run: bool = False
    cursor: str | None = None

    def plus(self, following: BulkResult) -> BulkResult:
        """The result of this part and the one that follows it, together."""
        reasons = {*self.skipped, *following.skipped}
        return replace(
            following,
            matched=self.matched + following.matched,
            changed=self.changed + following.changed,
            skipped={
                name: self.skipped.get(name, 0) + following.skipped.get(name, 0) for name in sorted(reasons)
            },
        )


Progress = Callable[[BulkResult], object]
"""Called with the result so far, while an operation on many jobs runs."""


class BulkKeywords(FilterKeywords, total=False):
    """The filter of an operation on many jobs, and its options, as keyword arguments.

    An empty filter needs ``every_job``. With ``dry_run`` jobs are only counted. ``progress`` is called with
    the result so far after each part.
    """

    every_job: bool
    dry_run: bool
    progress: Progress | None


def bulk_of(given: BulkKeywords) -> tuple[BulkRequest, Progress | None]:
    """Keyword arguments as a request, and the function to call. Raises `InvalidInput`."""
    options: Any = {**given}
    every_job, dry_run = options.pop("every_job", False), options.pop("dry_run", False)
    progress = options.pop("progress", None)
    request = BulkRequest(filter_of(options), every_job, dry_run)
    request.check()
    return request, progress


def filter_of(given: FilterKeywords) -> JobFilter:
    """Keyword arguments as a filter. Raises `InvalidInput`."""
    fields = {name: _plain(value) for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(fields, JobFilter)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_of(error, "")) from None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}s"
    return value if isinstance(value, str) else [*value]


def _moment(text: str, now: float, at: str) -> float | None:
    """A date or a duration in seconds since the epoch; None if there is none."""
    if not text:
        return None
    if (duration := _DURATION.fullmatch(text)) is not None:
        return now - float(duration[1]) * UNITS[duration[2]]
    try:  # a plus sign in a query is a space
        return from_datetime(msgspec.convert(_OFFSET.sub("+", text), Moment)) - _ROUNDING
    except msgspec.ValidationError:
        raise InvalidInput(
            Fault(
                "must be a date with offset, such as 2026-01-31T12:00:00Z, or a duration, such as 90s, 15m, "
                "1h, 7d or 2w",
                at,
            )
        ) from None
