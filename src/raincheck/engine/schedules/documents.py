"""The documents of schedules."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from raincheck.core.clock import to_datetime
from raincheck.core.codec import from_json
from raincheck.core.model import CatchUp, RetryOptions, Schedule, Step
from raincheck.core.options import Moment
from raincheck.engine.documents import Decode, Document, in_stages

SHOWN = 5
"""Next firings in a document."""


class PlannedFunction(Struct, frozen=True, kw_only=True):
    """One function of the next jobs; null stands for the option that the function is registered with."""

    name: str
    args: Any
    kwargs: Any
    retry_options: RetryOptions | None
    timeout: float | None


class ScheduleDocument(Document, frozen=True, kw_only=True):
    """A schedule. ``next`` are its next firings, none while it is ``paused``.

    ``last_fired_at`` and ``last_job`` are its latest firing and the job of that firing. ``source`` says where
    it was last written: ``api``, ``code`` or ``file``.
    """

    name: str
    cron: str | None
    zone: str | None
    every: float | None
    functions: list[PlannedFunction | list[PlannedFunction]]
    group: str | None
    data: Any
    priority: int
    expires_in: float | None
    result_ttl: float
    catch_up: CatchUp
    grace: float
    paused: bool
    next: list[Moment]
    last_fired_at: Moment | None
    last_job: str | None
    source: str
    created_at: Moment
    updated_at: Moment


def schedule_document(
    schedule: Schedule, upcoming: list[float], decode: Decode = from_json
) -> ScheduleDocument:
    """A schedule as a document, with its next firings."""
    job = schedule.job
    return ScheduleDocument(
        name=schedule.name,
        cron=schedule.cron,
        zone=None if schedule.cron is None else schedule.zone,
        every=schedule.every,
        functions=in_stages(job.steps, [_function(step, decode) for step in job.steps]),
        group=schedule.group,
        data=decode(job.data),
        priority=job.priority,
        expires_in=schedule.expires_in,
        result_ttl=job.result_ttl,
        catch_up=schedule.catch_up,
        grace=schedule.grace,
        paused=schedule.paused,
        next=[to_datetime(firing) for firing in upcoming],
        last_fired_at=None if schedule.last is None else to_datetime(schedule.last),
        last_job=schedule.last_job,
        source=schedule.source,
        created_at=to_datetime(schedule.created_at),
        updated_at=to_datetime(schedule.updated_at),
    )


def _function(step: Step, decode: Decode) -> PlannedFunction:
    return PlannedFunction(
        name=step.function,
        args=decode(step.args),
        kwargs=decode(step.kwargs),
        retry_options=step.retry,
        timeout=step.timeout,
    )
