"""Groups and their runs as callers see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from raincheck.core.clock import to_datetime
from raincheck.core.model import ErrorDetail, Job, OnFailure, Problem, State, Step, Stored
from raincheck.core.options import Moment
from raincheck.engine.documents import Decode, FunctionDocument, JobDocument, in_stages
from raincheck.store.base import Missing

REMOVED = "removed"
"""What is counted of members that are no longer kept."""


class GroupFunction(Struct, frozen=True, kw_only=True):
    """A function in a group's definition."""

    name: str
    args: Any
    kwargs: Any


class GroupJobDocument(Struct, frozen=True, kw_only=True):
    """One job in a group's definition; ``functions`` has an entry a stage, as that of a job has."""

    name: str
    functions: list[GroupFunction | list[GroupFunction]]
    data: Any
    priority: int


class GroupSummary(Struct, frozen=True, kw_only=True):
    """A group: how many jobs it has, and what follows. With an ``error`` it cannot be triggered."""

    name: str
    jobs: int
    then: list[str]
    on_failure: OnFailure | None
    error: Problem | None


class RunSummary(Struct, frozen=True, kw_only=True):
    """A run of a group, in short."""

    id: str
    state: State
    created_at: Moment
    finished_at: Moment | None


class GroupDocument(Struct, frozen=True, kw_only=True):
    """A group as it is defined, and its latest runs, newest first."""

    name: str
    jobs: list[GroupJobDocument]
    then: list[GroupFunction | list[GroupFunction]]
    on_failure: OnFailure | None
    error: Problem | None
    runs: list[RunSummary]


class MemberDocument(Struct, frozen=True, kw_only=True):
    """A job of a run. Without a state it is no longer kept, or not yet there."""

    id: str
    name: str | None
    state: State | None


class RunDocument(Struct, frozen=True, kw_only=True):
    """A run of a group: its jobs in order, how many are in which state, and what follows them.

    ``result`` is that of the follow-up, or without one the list of the jobs' results.
    """

    id: str
    group: str
    state: State
    counts: dict[str, int]
    jobs: list[MemberDocument]
    then: list[FunctionDocument | list[FunctionDocument]]
    result: Any
    error: Problem | None
    created_at: Moment
    updated_at: Moment
    finished_at: Moment | None
    cancel_requested_at: Moment | None


def run_document(run: JobDocument, ids: Sequence[str], members: Sequence[Stored | Missing]) -> RunDocument:
    """A run and its members as a document."""
    jobs = [_member(job_id, found) for job_id, found in zip(ids, members, strict=True)]
    return RunDocument(
        id=run.id,
        group=run.group or "",
        state=run.state,
        counts=dict(Counter(str(job.state or REMOVED) for job in jobs)),
        jobs=jobs,
        then=run.functions[1:],
        result=run.result,
        error=run.error,
        created_at=run.created_at,
        updated_at=run.updated_at,
        finished_at=run.finished_at,
        cancel_requested_at=run.cancel_requested_at,
    )


def _member(job_id: str, found: Stored | Missing) -> MemberDocument:
    if isinstance(found, Missing):
        return MemberDocument(id=job_id, name=None, state=None)
    return MemberDocument(id=job_id, name=found.job.name, state=found.state)


def run_summary(stored: Stored) -> RunSummary:
    """A run in short."""
    job = stored.job
    return RunSummary(
        id=job.id,
        state=stored.state,
        created_at=to_datetime(job.created_at),
        finished_at=_moment(job),
    )


def _moment(job: Job) -> datetime | None:
    return None if job.finished_at is None else to_datetime(job.finished_at)


def definition_of(steps: Sequence[Step], decode: Decode) -> list[GroupFunction | list[GroupFunction]]:
    """Steps as a definition shows them."""
    return in_stages(
        steps,
        [GroupFunction(name=s.function, args=decode(s.args), kwargs=decode(s.kwargs)) for s in steps],
    )


def problem_of(faults: Sequence[ErrorDetail]) -> Problem | None:
    """What is wrong with a group's definition."""
    if not faults:
        return None
    return Problem(
        type="invalid-group",
        title="The group is not valid",
        status=422,
        detail="mend what errors name, and start again: until then it cannot be triggered",
        errors=tuple(faults),
    )
