"""What can be asked of groups: trigger one, look at a run, list runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from raincheck.codec import from_json
from raincheck.documents import Decode, JobDocument
from raincheck.errors import NotFound, StoreError
from raincheck.functions import Functions
from raincheck.groups.declared import Declared, Groups
from raincheck.groups.documents import (
    GroupDocument,
    GroupJobDocument,
    GroupSummary,
    RunDocument,
    RunSummary,
    definition_of,
    problem_of,
    run_document,
    run_summary,
)
from raincheck.groups.members import found_members, open_members
from raincheck.groups.run import member_ids, run_of, step_name
from raincheck.jobs import Jobs
from raincheck.model import ErrorDetail, Job, Stored
from raincheck.store.base import Filter, Missing

logger = logging.getLogger("raincheck.groups")

RECENT = 10
"""How many runs are shown with a group."""


class Runs:
    """The runs of an app's groups."""

    def __init__(self, jobs: Jobs, groups: Groups, functions: Functions) -> None:
        self._jobs = jobs
        self._groups = groups
        self._functions = functions

    def draft(self, name: str, data: bytes = b"{}", args: Mapping[str, bytes] = {}) -> Job:
        """A run that may be submitted. Raises `NotFound`, `InvalidInput` or `TooLarge`."""
        return run_of(self._groups.valid(name), data, args, self._functions, self._jobs.limits)

    async def trigger(self, draft: Job, key: str | None = None, fingerprint: bytes = b"") -> Stored:
        """Start a run; durable when this returns, with its members there unless the store went away.

        With an idempotency ``key`` that was used before: that run, as it is now.
        """
        run = await self._jobs.submit(draft, key, fingerprint)
        return await self.open(run)

    async def open(self, run: Job) -> Stored:
        """A run that was submitted, with its members there; upkeep creates them if this cannot."""
        try:
            opened = await open_members(self._jobs, run)
            return await self._jobs.find(run.id) if opened is None else Stored(opened)
        except StoreError as error:
            logger.warning("the jobs of the run %s are created later: %s", run.id, error)
            return Stored(run)

    async def find(self, name: str, run_id: str) -> Stored:
        """A run of a group. Raises `NotFound` or `Gone`."""
        stored = await self._jobs.find(run_id)
        if stored.job.group != name or stored.job.run_of is not None:
            raise NotFound(f"the group {name[:100]!r} has no run {run_id}")
        return stored

    async def document(self, run: JobDocument, size: int) -> RunDocument:
        """A run with its members, as a document."""
        ids = member_ids(run.id, size)
        found: list[Stored | Missing] = [each async for _, each in found_members(self._jobs, ids)]
        return run_document(run, ids, found)

    async def recent(self, name: str) -> list[RunSummary]:
        """The latest runs of a group, newest first."""
        page = await self._jobs.page(Filter(function=step_name(name)), RECENT)
        return [run_summary(stored) for stored in page.jobs if stored.job.group == name]


def group_summary(declared: Declared) -> GroupSummary:
    """A group in short."""
    group = declared.group
    return GroupSummary(
        name=declared.name,
        jobs=len(group.members) if group else 0,
        then=[step.function for step in group.then] if group else [],
        on_failure=group.on_failure if group else None,
        error=problem_of([ErrorDetail(*fault) for fault in declared.faults]),
    )


def group_document(declared: Declared, runs: list[RunSummary], decode: Decode = from_json) -> GroupDocument:
    """A group and its latest runs."""
    group = declared.group
    return GroupDocument(
        name=declared.name,
        jobs=[
            GroupJobDocument(
                name=member.name,
                functions=definition_of(member.steps, decode),
                data=decode(member.data),
                priority=member.priority,
            )
            for member in (group.members if group else ())
        ],
        then=definition_of(group.then, decode) if group else [],
        on_failure=group.on_failure if group else None,
        error=problem_of([ErrorDetail(*fault) for fault in declared.faults]),
        runs=runs,
    )
