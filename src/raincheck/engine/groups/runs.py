"""Runs of groups: trigger one, find one, list them, cancel their jobs.

A run is a job. Its first step gathers the results of the run's members, which are jobs too. The ids of the
members follow from the id of the run, so that every process that creates them creates the same jobs: several
may do so at once, or again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.clock import following_id, new_id
from raincheck.core.codec import merge
from raincheck.core.errors import Fault, InvalidInput, NotFound, StoreError, TooLarge, WrongState
from raincheck.core.model import Gather, Job, Member, State, Step, Stored
from raincheck.core.stages import gathering_step
from raincheck.core.triggers import Opened, Trigger
from raincheck.engine.documents import JobDocument
from raincheck.engine.groups.definitions import Group, Groups
from raincheck.engine.groups.documents import RunDocument, RunSummary, run_document, run_summary
from raincheck.engine.idempotency import IdempotencyKey
from raincheck.engine.jobs import Jobs, Stop
from raincheck.engine.validation import Validator, object_faults, split_arguments
from raincheck.functions.signature import Pointers, escape
from raincheck.store.base import Filter, Missing

logger = logging.getLogger("raincheck.groups")

MIN_MEMBER_TTL = 86400.0
"""Seconds that ended members are kept at least: a member that is removed before the run gathers it counts
as failed."""

BATCH = 500
"""Members per read or write."""

RECENT = 10
"""Runs in the document of a group."""

MAX_PAGES = 20
"""Pages that are read to find them: a page may contain few runs of the group, or none."""


class Runs:
    """The runs of an app's groups."""

    def __init__(self, jobs: Jobs, groups: Groups, validator: Validator) -> None:
        self._jobs = jobs
        self._groups = groups
        self._validator = validator

    def draft(self, name: str, data: bytes = b"{}", args: Mapping[str, bytes] = {}) -> Job:
        """A run to be submitted. Raises `NotFound`, `InvalidInput` or `TooLarge`."""
        return run_of(self._groups.find_valid(name), data, args, self._validator)

    async def trigger(
        self,
        draft: Job,
        key: IdempotencyKey | None = None,
        wait: float | None = 0.0,
        stop: Stop | None = None,
    ) -> Stored:
        """Start a run. It is durable when this returns, and so are its members unless the store failed.

        An idempotency ``key`` that was used before gives the run of then, as it is now. ``wait`` and ``stop``
        are those of `Jobs.submit`.
        """
        run = await self._open((await self._jobs.submit(draft, key)).job)
        if wait == 0.0 or run.job.state.ended:
            return run
        try:
            return await self._jobs.wait(run.job.id, wait, stop)
        except StoreError:  # the run is durable: report it as accepted
            return run

    async def _open(self, run: Job) -> Stored:
        """A submitted run with its members; if the store fails, maintenance creates them."""
        try:
            opened = await open_members(self._jobs, run)
            return await self._jobs.find(run.id) if opened is None else Stored(opened)
        except StoreError as error:
            logger.warning("run %s: the store failed, its jobs are created later: %s", run.id, error)
            return Stored(run)

    async def find(self, name: str, run_id: str) -> Stored:
        """A run of a group. Raises `NotFound` or `Gone`."""
        stored = await self._jobs.find(run_id)
        if stored.job.group != name or stored.job.run_of is not None:
            raise NotFound(
                f"group {name[:100]!r} has no run {run_id}: GET /v1/group/{{name}} lists the latest"
            )
        return stored

    async def document(self, stored: Stored, document: JobDocument) -> RunDocument:
        """A run with its members, as a document; ``document`` is that of the run as a job."""
        ids = member_ids(stored.job.id, size_of(stored.job))
        members: list[Stored | Missing] = []
        for at in range(0, len(ids), BATCH):
            members += await self._jobs.store.find(ids[at : at + BATCH])
        return run_document(document, ids, members)

    async def recent(self, name: str) -> list[RunSummary]:
        """The latest runs of a group, newest first."""
        runs: list[RunSummary] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await self._jobs.page(Filter(function=step_name(name)), RECENT - len(runs), cursor)
            runs += [run_summary(stored) for stored in page.jobs if stored.job.group == name]
            cursor = page.cursor
            if cursor is None or len(runs) >= RECENT:
                break
        return runs


def run_of(group: Group, data: bytes, args: Mapping[str, bytes], validator: Validator) -> Job:
    """The draft of a run. ``data`` (a JSON object) is merged over the data of every job and the follow-up.

    ``args`` replaces the arguments of the first function of jobs, by job name: a JSON array by position, an
    object by name. Raises `InvalidInput` with every fault, or `TooLarge`.
    """
    limits = validator.limits
    if faults := object_faults(data, "/data"):
        raise InvalidInput(*faults)
    members = _with_new_arguments(group.members, args, validator) if args else group.members
    if data != b"{}":
        if group.size + len(data) * len(members) > limits.group:
            raise TooLarge(
                f"data and arguments of all jobs together can have at most {limits.group} bytes, and each "
                "job gets a copy of `data`: send less data, or a reference to it"
            )
        members = tuple(replace(member, data=merge(member.data, data)) for member in members)
    gather = Step(step_name(group.name), 0, gather=Gather(len(members), group.on_failure, members))
    return Job(
        id=new_id(),
        name=group.name,
        steps=(gather, *(replace(step, stage=step.stage + 1) for step in group.then)),
        data=merge(group.data, data),
        priority=group.priority,
        result_ttl=limits.result_ttl if group.result_ttl is None else group.result_ttl,
        group=group.name,
    )


def step_name(group: str) -> str:
    """The name of the gathering step of a run, in the place of a function's name."""
    return f"group:{group}"


def _with_new_arguments(
    members: Sequence[Member], args: Mapping[str, bytes], validator: Validator
) -> tuple[Member, ...]:
    """The members, the first function of some with the arguments in ``args``."""
    unknown = sorted(args.keys() - {member.name for member in members})
    faults = [Fault("the group has no job with this name", f"/args/{escape(name)}") for name in unknown]
    changed = []
    for member in members:
        arguments = args.get(member.name)
        changed.append(member if arguments is None else _with_arguments(member, arguments, validator, faults))
    if faults:
        raise InvalidInput(*dict.fromkeys(faults))
    return tuple(changed)


def _with_arguments(member: Member, arguments: bytes, validator: Validator, faults: list[Fault]) -> Member:
    at = f"/args/{escape(member.name)}"
    try:
        args, kwargs = split_arguments(arguments, at)
    except InvalidInput as error:
        faults += error.faults
        return member
    first, *others = member.steps
    faults += validator.argument_faults(first.function, args, kwargs, Pointers(at, at, at))
    return replace(member, steps=(replace(first, args=args, kwargs=kwargs), *others))


def member_ids(run_id: str, size: int, start: int = 0) -> list[str]:
    """The ids of a run's members, in order, from position ``start`` to ``size``."""
    return [member_id(run_id, index) for index in range(start, size)]


def member_id(run_id: str, index: int) -> str:
    """The id of the member at a position. It sorts after the id of the run."""
    return following_id(run_id, index)


def size_of(run: Job) -> int:
    """The number of members of a run."""
    return sum(step.gather.size for step in run.steps if step.gather is not None)


def members_of(run: Job) -> Iterator[Job]:
    """The drafts of the members that a run has not created yet."""
    gather = run.steps[0].gather
    for index, member in enumerate(gather.members if gather else ()):
        yield Job(
            id=member_id(run.id, index),
            name=member.name,
            steps=member.steps,
            data=member.data,
            priority=member.priority,
            result_ttl=max(run.result_ttl, MIN_MEMBER_TTL),
            group=run.group,
            run_of=run.id,
        )


async def open_members(jobs: Jobs, run: Job) -> Job | None:
    """Create or reopen the members of a run. Returns the run then, or None if another process changed it."""
    index = gathering_step(run)
    if index is None or run.steps[index].state is not State.PENDING:
        return None
    gather, store = run.steps[index].gather, jobs.store
    if gather is not None and not gather.members:
        retried_at = run.steps[index].due
        await _decide_each(jobs, run, lambda stored: lifecycle.reopen_of(stored.job, retried_at))
    drafts = members_of(run)
    while changes := [lifecycle.submit(draft, store.now()) for draft in islice(drafts, BATCH)]:
        await store.commit(changes)  # a conflict means that the member exists, or existed
    opened = lifecycle.advance(run, [Opened()], store.now())
    (outcome,) = await store.commit([opened])  # last, because it removes the members' definitions
    return opened.job if outcome is None else None


async def cancel_members(jobs: Jobs, run: Job) -> None:
    """Cancel the members of a run that have not ended."""
    await _decide_each(jobs, run, lifecycle.cancel_of)


async def _decide_each(jobs: Jobs, run: Job, decision: Callable[[Stored], Trigger | None]) -> None:
    """Decide for every member, a batch at a time, so that the store writes a batch together."""

    async def decide(job_id: str) -> None:
        with suppress(NotFound, WrongState):
            await jobs.decide(job_id, decision)

    ids = member_ids(run.id, size_of(run))
    for at in range(0, len(ids), BATCH):
        await asyncio.gather(*map(decide, ids[at : at + BATCH]))
