"""The schedules in the store: put, find, pause, resume, delete; and fire those that are due.

Any number of processes fire the same schedules; there is no leader. The id of a job follows from its schedule
and the time of the firing, so that only the first process creates it. Then the schedule moves on, if no other
process has changed it. If a process dies between the two, another one repeats both (docs/decisions/0014).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import islice

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.clock import derived_id, new_id
from raincheck.core.errors import NotFound, StoreUnavailable
from raincheck.core.model import Job, Schedule
from raincheck.engine.groups.runs import Runs
from raincheck.engine.schedules.documents import SHOWN
from raincheck.engine.schedules.timetable import Plan, after, firings, plan, rhythm_of
from raincheck.store.base import Store

logger = logging.getLogger("raincheck.schedules")

MAX_TRIES = 50
"""Tries to write a change; a second is needed only if several processes change one schedule."""


class Scheduler:
    """The schedules in a store. ``runs`` drafts the runs of schedules that trigger a group."""

    def __init__(self, store: Store, runs: Runs | None = None) -> None:
        self._store = store
        self._runs = runs
        self._logged: set[str] = set()

    async def put(self, schedule: Schedule, paused: bool | None = None) -> tuple[Schedule, bool]:
        """Create a schedule, or replace the one of its name. Returns it, and whether it is new.

        A schedule with the same rhythm keeps its next firing; ``paused`` None leaves it paused or not.
        """
        for _ in range(MAX_TRIES):
            before, now = await self._read(schedule.name), self._store.now()
            merged = await asyncio.to_thread(_merged, before, schedule, paused, now)
            if await self._store.put_schedule(merged):
                return merged, before is None
        raise _contended(schedule.name)

    async def declare(self, schedule: Schedule) -> None:
        """Put a schedule of the code or the file, unless the same declaration was put before."""
        before = await self._read(schedule.name)
        if before is None or before.declared != schedule.declared:
            await self.put(schedule)

    async def find(self, name: str) -> Schedule:
        """The schedule. Raises `NotFound`."""
        schedule = await self._read(name)
        if schedule is None:
            raise NotFound(f"no schedule is named {name[:100]!r}: GET /v1/schedule lists the schedules")
        return schedule

    async def list_schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return await self._store.schedules()

    async def pause(self, name: str) -> Schedule:
        """Stop a schedule from firing until it is resumed. Raises `NotFound`."""
        return await self._change(name, lambda schedule: replace(schedule, paused=True))

    async def resume(self, name: str) -> Schedule:
        """Resume a paused schedule; it skips the firings of the pause. Raises `NotFound`."""
        return await self._change(
            name, lambda schedule: _with_next(replace(schedule, paused=False), self._store.now())
        )

    async def delete(self, name: str) -> None:
        """Delete a schedule; its jobs stay. Raises `NotFound`."""
        for _ in range(MAX_TRIES):
            before = await self.find(name)
            if await self._store.put_schedule(replace(before, rev=before.rev + 1, removed=True)):
                return
        raise _contended(name)

    async def draft_now(self, name: str) -> Job:
        """The draft of a job of a schedule, to run now and not at a firing. Raises `NotFound`."""
        schedule = await self.find(name)
        return _job(schedule, self._template(schedule), new_id(), None, self._store.now())

    async def upcoming(self, *schedules: Schedule) -> list[list[float]]:
        """The next firings of each schedule; none if it is paused."""
        return await asyncio.to_thread(lambda: [_upcoming(schedule) for schedule in schedules])

    async def fire(self, due: list[Schedule]) -> int:
        """Create the jobs of the firings that are due. Returns the number of schedules that moved on."""
        if not due:
            return 0
        plans = await asyncio.to_thread(self._plans, due, self._store.now())
        moved = await asyncio.gather(*(self._fire(*each) for each in plans), return_exceptions=True)
        for each in moved:
            if isinstance(each, BaseException):
                raise each
        return sum(each is True for each in moved)

    def _plans(self, due: list[Schedule], now: float) -> list[tuple[Schedule, Job, Plan]]:
        """The plan of each schedule; one that fails here must not stop the others."""
        plans = []
        for schedule in due:
            try:
                plans.append((schedule, self._template(schedule), plan(schedule, now)))
            except Exception as error:  # noqa: BLE001 - this process may not have its zone or its group
                if schedule.id not in self._logged:
                    self._logged.add(schedule.id)
                    logger.error("schedule %s: this process cannot fire it: %r", schedule.name, error)
        return plans

    def _template(self, schedule: Schedule) -> Job:
        """The job of every firing, without id and dates."""
        if schedule.group is None:
            return schedule.job
        if self._runs is None:
            raise NotFound(f"no group is named {schedule.group[:100]!r}")
        return replace(self._runs.draft(schedule.group, schedule.job.data), schedule=schedule.name)

    async def _fire(self, schedule: Schedule, template: Job, plan: Plan) -> bool:
        """Create the jobs first: after a crash another process repeats this, and creates no job twice."""
        now, last, last_job = self._store.now(), schedule.last, schedule.last_job
        jobs = [_job(schedule, template, _job_id(schedule, at), at, now) for at in plan.firings]
        await self._store.commit(
            [lifecycle.submit(job, now) for job in jobs]
        )  # a conflict means that the job exists
        if jobs:
            last, last_job = plan.firings[-1], jobs[-1].id
        if plan.missed:
            logger.warning("schedule %s: missed %d firings or more", schedule.name, plan.missed)
        return await self._store.put_schedule(
            replace(schedule, rev=schedule.rev + 1, next=plan.next, last=last, last_job=last_job)
        )

    async def _read(self, name: str) -> Schedule | None:
        return next(iter(await self._store.schedules(name)), None)

    async def _change(self, name: str, decision: Callable[[Schedule], Schedule]) -> Schedule:
        for _ in range(MAX_TRIES):
            before = await self.find(name)
            changed = await asyncio.to_thread(decision, before)
            if changed.paused == before.paused:
                return before
            changed = replace(changed, rev=before.rev + 1)
            if await self._store.put_schedule(changed):
                return changed
        raise _contended(name)


def _merged(before: Schedule | None, put: Schedule, paused: bool | None, now: float) -> Schedule:
    """The schedule to write when ``put`` replaces ``before``."""
    if before is None:
        new = replace(
            put, id=new_id(), rev=1, paused=put.paused if paused is None else paused, anchor=round(now, 3)
        )
        return _with_next(replace(new, created_at=now, updated_at=now), now)
    schedule = replace(
        put,
        id=before.id,
        rev=before.rev + 1,
        anchor=before.anchor,
        paused=before.paused if paused is None else paused,
        next=before.next,
        last=before.last,
        last_job=before.last_job,
        created_at=before.created_at,
        updated_at=now,
        declared=put.declared or before.declared,
    )
    if rhythm_of(schedule) == rhythm_of(before) and not before.paused:
        return schedule
    if schedule.every != before.every:
        schedule = replace(schedule, anchor=round(now, 3))
    return _with_next(schedule, now)


def _with_next(schedule: Schedule, now: float) -> Schedule:
    """The schedule with its first firing after ``now``."""
    return replace(schedule, next=after(rhythm_of(schedule), now))


def _upcoming(schedule: Schedule) -> list[float]:
    if schedule.due is None:
        return []
    return [schedule.due, *islice(firings(rhythm_of(schedule), schedule.due), SHOWN - 1)]


def _job_id(schedule: Schedule, at: float) -> str:
    """The id of the job of a firing: the same in every process, and different for every firing."""
    return derived_id(at, f"{schedule.id} {schedule.name}".encode())


def _job(schedule: Schedule, template: Job, job_id: str, at: float | None, now: float) -> Job:
    expires_at = None if schedule.expires_in is None else now + schedule.expires_in
    return replace(template, id=job_id, scheduled_at=at, expires_at=expires_at)


def _contended(name: str) -> StoreUnavailable:
    return StoreUnavailable(f"other processes keep changing schedule {name}: try again")
