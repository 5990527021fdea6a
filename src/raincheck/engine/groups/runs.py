"""What can be asked of groups: trigger one, look at a run, list runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from raincheck.core.codec import from_json
from raincheck.core.errors import NotFound, StoreError
from raincheck.core.model import ErrorDetail, Job, Stored
from raincheck.engine.documents import Decode, JobDocument
from raincheck.engine.groups.declared import Groups
from raincheck.engine.groups.definition import Group
from raincheck.engine.groups.documents import (
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
from raincheck.engine.groups.members import found_members, open_members, size_of
from raincheck.engine.groups.run import member_ids, run_of, step_name
from raincheck.engine.idempotency import IdempotencyKey
from raincheck.engine.jobs import Jobs, Stop
from raincheck.engine.validation import Validator
from raincheck.store.base import Filter, Missing

logger = logging.getLogger("raincheck.groups")

RECENT = 10
"""How many runs are shown with a group."""

MAX_PAGES = 20
"""How many pages are read for them: a store may look through many other jobs before it finds one."""


class Runs:
    """The runs of an app's groups."""

    def __init__(self, jobs: Jobs, groups: Groups, validator: Validator) -> None:
        self._jobs = jobs
        self._groups = groups
        self._validator = validator

    def draft(self, name: str, data: bytes = b"{}", args: Mapping[str, bytes] = {}) -> Job:
        """A run that may be submitted. Raises `NotFound`, `InvalidInput` or `TooLarge`."""
        return run_of(self._groups.valid(name), data, args, self._validator)

    async def trigger(
        self,
        draft: Job,
        key: IdempotencyKey | None = None,
        wait: float | None = 0.0,
        stop: Stop | None = None,
    ) -> Stored:
        """Start a run; durable when this returns, with its members there unless the store went away.

        With an idempotency ``key`` that was used before it is that run, as it is now. ``wait`` and ``stop``
        are those of `Jobs.submit`.
        """
        run = await self._open((await self._jobs.submit(draft, key)).job)
        if wait == 0.0 or run.job.state.ended:
            return run
        try:
            return await self._jobs.wait(run.job.id, wait, stop)
        except StoreError:  # it was accepted, whatever comes after
            return run

    async def _open(self, run: Job) -> Stored:
        """A run that was submitted, with its members there; maintenance creates them if this cannot."""
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

    async def document(self, stored: Stored, document: JobDocument) -> RunDocument:
        """A run with its members, as a document; ``document`` is that of the run as a job."""
        ids = member_ids(stored.job.id, size_of(stored.job))
        found: list[Stored | Missing] = [each async for _, each in found_members(self._jobs, ids)]
        return run_document(document, ids, found)

    async def recent(self, name: str) -> list[RunSummary]:
        """The latest runs of a group, newest first."""
        found: list[RunSummary] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await self._jobs.page(Filter(function=step_name(name)), RECENT - len(found), cursor)
            found += [run_summary(stored) for stored in page.jobs if stored.job.group == name]
            cursor = page.cursor
            if cursor is None or len(found) >= RECENT:
                break
        return found


def group_summary(group: Group) -> GroupSummary:
    """A group in short."""
    return GroupSummary(
        name=group.name,
        jobs=len(group.members),
        then=[step.function for step in group.then],
        on_failure=None if group.faults else group.on_failure,
        error=problem_of([ErrorDetail(*fault) for fault in group.faults]),
    )


def group_document(group: Group, runs: list[RunSummary], decode: Decode = from_json) -> GroupDocument:
    """A group and its latest runs."""
    return GroupDocument(
        name=group.name,
        jobs=[
            GroupJobDocument(
                name=member.name,
                functions=definition_of(member.steps, decode),
                data=decode(member.data),
                priority=member.priority,
            )
            for member in group.members
        ],
        then=definition_of(group.then, decode),
        on_failure=None if group.faults else group.on_failure,
        error=problem_of([ErrorDetail(*fault) for fault in group.faults]),
        runs=runs,
    )
