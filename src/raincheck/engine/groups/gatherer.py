"""Gathers the results of a run's members once all have ended.

Every process that does maintenance gathers the runs whose members end in it. Nothing is counted: an ended
member stays ended, and each run is read on from the first member that had not ended. If this process dies,
the check that is due for the run makes another process continue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Self

from raincheck.core import lifecycle
from raincheck.core.errors import StoreError
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import ErrorDetail, Job, State, Stored
from raincheck.core.stages import gathering_step
from raincheck.core.triggers import Gathered
from raincheck.engine.groups.runs import BATCH, cancel_members, member_ids, open_members, size_of
from raincheck.engine.jobs import Jobs
from raincheck.engine.results import load_results
from raincheck.store.base import Missing
from raincheck.store.listeners import call_into

logger = logging.getLogger("raincheck.groups")

PAUSE = 0.02
"""Seconds between rounds, so that one check covers many members that end."""

MAX_RUNS = 10_000
"""Runs whose progress a process remembers; a run that it has forgotten is read from its first member."""

RETRY_AFTER = 0.2
"""Seconds until the next check, if the store failed or the members are still being created."""

MAX_ERRORS = 10
"""Failed members that the error of a run lists."""


class _Progress:
    """What this process knows of an unfinished run."""

    def __init__(self) -> None:
        self.ended = 0
        """The members before this position have ended."""
        self.cancelled: float | None = None
        """The time of the cancel request that was passed on to the members."""


class Gatherer:
    """Gathers runs while its context is open."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = Lock()
        self._due: dict[str, bool] = {}
        """Runs to check; whether their members may have to be created."""
        self._progress: dict[str, _Progress] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.listen()
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self) -> None:
        """Note the runs that need a check, from now on until `close`."""
        self._loop = asyncio.get_running_loop()
        self._has_due = asyncio.Event()
        self._unlisten = self._jobs.store.listen(self._on_changes)

    def close(self) -> None:
        """Note no more runs."""
        self._unlisten()

    def _on_changes(self, jobs: Mapping[str, Job | None]) -> None:
        """Note runs with ended members, runs that changed themselves, and new ones of schedules.

        Who submits a run by hand creates its members, too; nobody does that after a firing. Called from any
        thread.
        """
        of_groups = [job for job in jobs.values() if job is not None and job.group is not None]
        if not of_groups:
            return
        with self._lock:
            for job in of_groups:
                if job.run_of is not None and job.state.ended:
                    self._due.setdefault(job.run_of, False)
                elif job.run_of is None and (job.rev > 1 or job.schedule) and gathering_step(job) is not None:
                    self._due[job.id] = True
        call_into(self._loop, self._has_due.set)

    def _check_again(self, run_id: str, may_create: bool) -> None:
        with self._lock:
            self._due[run_id] = self._due.get(run_id, False) or may_create
        self._has_due.set()

    async def _work(self) -> None:
        while True:
            await self._has_due.wait()
            await self.check_noted()
            await asyncio.sleep(PAUSE)

    async def check_noted(self) -> int:
        """Check the runs that were noted since the last call. Returns how many."""
        self._has_due.clear()
        with self._lock:
            due, self._due = self._due, {}
        for run_id, may_create in due.items():
            await self._try_check(run_id, may_create)
        return len(due)

    async def _try_check(self, run_id: str, may_create: bool) -> None:
        try:
            again = await self.check(run_id, may_create)
        except StoreError as error:
            logger.debug("run %s: the store failed, retrying: %s", run_id, error)
            again = True
        except Exception:  # the check that is due for the run repeats this
            logger.exception("run %s could not be checked", run_id)
            again = False
        if again:
            self._loop.call_later(RETRY_AFTER, self._check_again, run_id, may_create)

    async def check(self, run_id: str, may_create: bool = True) -> bool:
        """Do what a run needs now. Returns whether to check it again soon.

        Without ``may_create`` its members are not created: the process that submitted it is doing that.
        """
        (run,) = await self._jobs.store.find([run_id])
        index = gathering_step(run.job) if isinstance(run, Stored) else None
        if index is None or not isinstance(run, Stored):
            self._progress.pop(run_id, None)
            return False
        state = run.job.steps[index].state
        if state is State.DOING:
            return await self._gather(run.job)
        if state is State.PENDING and may_create:
            return await open_members(self._jobs, run.job) is None
        return state is State.PENDING

    async def _gather(self, run: Job) -> bool:
        """Write the results of the members if all have ended. Returns whether to check again soon."""
        progress = self._progress.setdefault(run.id, _Progress())
        if len(self._progress) > MAX_RUNS:
            del self._progress[next(iter(self._progress))]
        if run.cancel_requested_at not in (None, progress.cancelled):
            await cancel_members(self._jobs, run)
            progress.cancelled = run.cancel_requested_at
        progress.ended, size = await _first_open(self._jobs, run, progress.ended), size_of(run)
        if progress.ended < size:
            return False
        trigger = await _gathered(self._jobs, member_ids(run.id, size))
        if isinstance(trigger, int):
            progress.ended = trigger
            return False
        self._progress.pop(run.id, None)
        change = lifecycle.advance(run, [trigger], self._jobs.store.now())
        return await self._jobs.store.commit([change]) != [None]


async def _first_open(jobs: Jobs, run: Job, start: int) -> int:
    """The position of the first member from ``start`` on that has not ended; the run's size if all have.

    Reads one member at first and then more and more, so that a check that comes too early is cheap.
    """
    at, count, size = start, 1, size_of(run)
    while at < size:
        batch = member_ids(run.id, min(at + count, size), at)
        for i, member in enumerate(await jobs.store.find(batch)):
            if isinstance(member, Stored) and not member.job.state.ended:
                return at + i
        at, count = at + len(batch), min(2 * count, BATCH)
    return at


async def _gathered(jobs: Jobs, ids: Sequence[str]) -> Gathered | int:
    """The results and errors of the members; or the position of one that was reopened meanwhile."""
    results: list[bytes] = []
    failed: list[int] = []
    errors: list[ErrorDetail] = []
    size = 2 + len(ids)  # of the brackets and commas
    limit = min(jobs.limits.result, jobs.limits.results)
    for at in range(0, len(ids), BATCH):
        members = await jobs.store.find(ids[at : at + BATCH])
        for position, member in enumerate(members, at):
            if isinstance(member, Stored) and not member.job.state.ended:
                return position
        size += sum(map(_result_size, members))
        if size <= limit:
            members = await _with_results(jobs, members)
        for position, member in enumerate(members, at):
            if isinstance(member, Missing) or member.job.state is not State.DONE:
                failed.append(position)
                if len(errors) < MAX_ERRORS:
                    errors.append(ErrorDetail(_failure(ids[position], member), f"/jobs/{position}"))
            if size <= limit:
                results.append(_result(member))
    array = b"[" + b",".join(results) + b"]" if size <= limit else None
    return Gathered(array, tuple(failed), tuple(errors))


async def _with_results(jobs: Jobs, members: Sequence[Stored | Missing]) -> list[Stored | Missing]:
    """The members with the results of their last stage loaded; a removed one is missing."""
    stored = [each for each in members if isinstance(each, Stored)]
    last = [each.job.steps[-1].stage for each in stored]
    loaded = iter(await load_results(jobs.store, [each.job for each in stored], last))
    with_results: list[Stored | Missing] = []
    for each in members:
        job = next(loaded) if isinstance(each, Stored) else None
        with_results.append(Missing(gone=True) if job is None else Stored(job))
    return with_results


def _result_size(member: Stored | Missing) -> int:
    """The bytes of a member's result."""
    if isinstance(member, Missing) or member.job.state is not State.DONE:
        return len(b"null")
    last = member.job.steps[-1].stage
    steps = [step for step in member.job.steps if step.stage == last]
    sizes = [step.result_size or len(step.result or b"null") for step in steps]
    return sum(sizes) + (len(sizes) + 1 if len(sizes) > 1 else 0)


def _result(member: Stored | Missing) -> bytes:
    if isinstance(member, Missing) or member.job.state is not State.DONE:
        return b"null"
    return previous_results(member.job, member.job.steps[-1].stage + 1)


def _failure(job_id: str, member: Stored | Missing) -> str:
    """Why a member has no result."""
    if isinstance(member, Missing):
        return f"job {job_id} was removed"
    job = member.job
    error = f": {job.error.title}" if job.error is not None else ""
    return f"job {job_id} ({job.name}) was {job.state}{error}"
