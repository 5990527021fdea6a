"""The documents of groups and of their runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from raincheck.core.clock import to_datetime
from raincheck.core.codec import from_json
from raincheck.core.model import ErrorDetail, Job, OnFailure, Problem, State, Step, Stored
from raincheck.core.options import Moment
from raincheck.engine.documents import Decode, Document, FunctionDocument, JobDocument, in_stages
from raincheck.engine.groups.definitions import Group
from raincheck.store.base import Missing

REMOVED = "removed"
"""The key in ``counts`` for members that are no longer kept, or not yet created."""


class GroupFunction(Struct, frozen=True, kw_only=True):
    """A function in a group's definition."""

    name: str
    args: Any
    kwargs: Any


class GroupJobDocument(Struct, frozen=True, kw_only=True):
    """One job in a group's definition; ``functions`` has one entry per stage, as in a job."""

    name: str
    functions: list[GroupFunction | list[GroupFunction]]
    data: Any
    priority: int


class GroupSummary(Struct, frozen=True, kw_only=True):
    """A group: the number of its jobs and the functions that follow. With an ``error`` it cannot be
    triggered."""

    name: str
    jobs: int
    then: list[str]
    on_failure: OnFailure | None
    error: Problem | None


class RunSummary(Struct, frozen=True, kw_only=True):
    """A short document of a run."""

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


class MemberDocument(Document, frozen=True, kw_only=True):
    """A job of a run. Without a state it is no longer kept, or not yet created."""

    id: str
    name: str | None
    state: State | None


class RunDocument(Document, frozen=True, kw_only=True):
    """A run of a group: its jobs in order, the number of jobs in each state, and the functions that follow.

    ``result`` is the result of the last function that follows, or the list of the jobs' results.
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
    jobs = [_member(job_id, member) for job_id, member in zip(ids, members, strict=True)]
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


def _member(job_id: str, member: Stored | Missing) -> MemberDocument:
    if isinstance(member, Missing):
        return MemberDocument(id=job_id, name=None, state=None)
    return MemberDocument(id=job_id, name=member.job.name, state=member.state)


def run_summary(stored: Stored) -> RunSummary:
    """The short document of a run."""
    job = stored.job
    return RunSummary(
        id=job.id,
        state=stored.state,
        created_at=to_datetime(job.created_at),
        finished_at=_moment(job),
    )


def _moment(job: Job) -> datetime | None:
    return None if job.finished_at is None else to_datetime(job.finished_at)


def group_summary(group: Group) -> GroupSummary:
    """The short document of a group."""
    return GroupSummary(
        name=group.name,
        jobs=len(group.members),
        then=[step.function for step in group.then],
        on_failure=None if group.faults else group.on_failure,
        error=_problem(group),
    )


def group_document(group: Group, runs: list[RunSummary], decode: Decode = from_json) -> GroupDocument:
    """A group and its latest runs as a document."""
    return GroupDocument(
        name=group.name,
        jobs=[
            GroupJobDocument(
                name=member.name,
                functions=_functions(member.steps, decode),
                data=decode(member.data),
                priority=member.priority,
            )
            for member in group.members
        ],
        then=_functions(group.then, decode),
        on_failure=None if group.faults else group.on_failure,
        error=_problem(group),
        runs=runs,
    )


def _functions(steps: Sequence[Step], decode: Decode) -> list[GroupFunction | list[GroupFunction]]:
    documents = [GroupFunction(name=s.function, args=decode(s.args), kwargs=decode(s.kwargs)) for s in steps]
    return in_stages(steps, documents)


def _problem(group: Group) -> Problem | None:
    """Why a group cannot be triggered."""
    if not group.faults:
        return None
    return Problem(
        type="invalid-group",
        title="Invalid group",
        status=422,
        detail="this group cannot be triggered: fix the fields listed in `errors` and restart the app",
        errors=tuple(ErrorDetail(*fault) for fault in group.faults),
    )
