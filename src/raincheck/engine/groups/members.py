"""What is done to the members of a run: create, reopen, cancel, look whether they have ended.

All of it may be done by several processes at once, or again: what another has done stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from itertools import islice

from raincheck.core import lifecycle
from raincheck.core.errors import NotFound, WrongState
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import ErrorDetail, Job, State, Stored
from raincheck.core.stages import gathering_step
from raincheck.core.triggers import Gathered, Opened, Trigger
from raincheck.engine.groups.run import member_ids, members_of
from raincheck.engine.jobs import Jobs
from raincheck.engine.results import load_results
from raincheck.store.base import Missing

BATCH = 500
"""How many members are written, or read, together."""

TOLD = 10
"""How many failed members a failed run names."""


async def open_members(jobs: Jobs, run: Job) -> Job | None:
    """See that the members of a run are there and open; the run then, None if it was changed meanwhile."""
    index = gathering_step(run)
    if index is None or run.steps[index].state is not State.PENDING:
        return None
    gather, store = run.steps[index].gather, jobs.store
    if gather is not None and not gather.members:
        retried_at = run.steps[index].due
        await _each(jobs, run, lambda stored: lifecycle.reopen_of(stored.job, retried_at))
    drafts = members_of(run)
    while changes := [lifecycle.submit(draft, store.now()) for draft in islice(drafts, BATCH)]:
        await store.commit(changes)  # a conflict: it is there, or was
    opened = lifecycle.advance(run, [Opened()], store.now())
    (outcome,) = await store.commit([opened])  # only now: the definitions of the members go with it
    return opened.job if outcome is None else None


async def cancel_members(jobs: Jobs, run: Job) -> None:
    """Cancel those that have not ended."""
    await _each(jobs, run, lifecycle.cancel_of)


async def _each(jobs: Jobs, run: Job, decision: Callable[[Stored], Trigger | None]) -> None:
    """Decide for each member; for one batch at once, which stores write together."""

    async def decide(job_id: str) -> None:
        with suppress(NotFound, WrongState):
            await jobs.decide(job_id, decision)

    ids = member_ids(run.id, size_of(run))
    for at in range(0, len(ids), BATCH):
        await asyncio.gather(*map(decide, ids[at : at + BATCH]))


def size_of(run: Job) -> int:
    """How many members a run has."""
    return sum(step.gather.size for step in run.steps if step.gather is not None)


async def found_members(jobs: Jobs, ids: Sequence[str]) -> AsyncIterator[tuple[int, Stored | Missing]]:
    """The members with these ids, and the place of each."""
    for at in range(0, len(ids), BATCH):
        for i, found in enumerate(await jobs.store.find(ids[at : at + BATCH])):
            yield at + i, found


async def first_open(jobs: Jobs, run: Job, start: int) -> int:
    """The place of the first member from ``start`` on that has not ended; their number if all have.

    Reads few at first and ever more, so that looking in vain costs one.
    """
    at, count, size = start, 1, size_of(run)
    while at < size:
        batch = member_ids(run.id, min(at + count, size), at)
        for i, found in enumerate(await jobs.store.find(batch)):
            if isinstance(found, Stored) and not found.job.state.ended:
                return at + i
        at, count = at + len(batch), min(2 * count, BATCH)
    return at


async def gathered(jobs: Jobs, ids: Sequence[str]) -> Gathered | int:
    """What the members have come to; or the place of one that has not ended after all."""
    results: list[bytes] = []
    failed: list[int] = []
    errors: list[ErrorDetail] = []
    size = 2 + len(ids)  # of the brackets and commas
    most = min(jobs.limits.result, jobs.limits.results)
    for at in range(0, len(ids), BATCH):
        members = await jobs.store.find(ids[at : at + BATCH])
        for place, found in enumerate(members, at):
            if isinstance(found, Stored) and not found.job.state.ended:
                return place
        size += sum(map(_size, members))
        if size <= most:
            members = await _with_results(jobs, members)
        for place, found in enumerate(members, at):
            if isinstance(found, Missing) or found.job.state is not State.DONE:
                failed.append(place)
                if len(errors) < TOLD:
                    errors.append(ErrorDetail(_words(ids[place], found), f"/jobs/{place}"))
            if size <= most:
                results.append(_result(found))
    whole = b"[" + b",".join(results) + b"]" if size <= most else None
    return Gathered(whole, tuple(failed), tuple(errors))


async def _with_results(jobs: Jobs, members: Sequence[Stored | Missing]) -> list[Stored | Missing]:
    """The members with the results of their last stage put back; a removed one is missing."""
    stored = [each for each in members if isinstance(each, Stored)]
    last = [each.job.steps[-1].stage for each in stored]
    loaded = iter(await load_results(jobs.store, [each.job for each in stored], last))
    made: list[Stored | Missing] = []
    for each in members:
        job = next(loaded) if isinstance(each, Stored) else None
        made.append(Missing(gone=True) if job is None else Stored(job))
    return made


def _size(found: Stored | Missing) -> int:
    """How many bytes the result of a member has."""
    if isinstance(found, Missing) or found.job.state is not State.DONE:
        return len(b"null")
    last = found.job.steps[-1].stage
    steps = [step for step in found.job.steps if step.stage == last]
    sizes = [step.result_size or len(step.result or b"null") for step in steps]
    return sum(sizes) + (len(sizes) + 1 if len(sizes) > 1 else 0)


def _result(found: Stored | Missing) -> bytes:
    if isinstance(found, Missing) or found.job.state is not State.DONE:
        return b"null"
    return previous_results(found.job, found.job.steps[-1].stage + 1)


def _words(job_id: str, found: Stored | Missing) -> str:
    """What became of a member that has no result."""
    if isinstance(found, Missing):
        return f"job {job_id} was removed"
    job = found.job
    why = f": {job.error.title}" if job.error is not None else ""
    return f"job {job_id} ({job.name}) was {job.state}{why}"
