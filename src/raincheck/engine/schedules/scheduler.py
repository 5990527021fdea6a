"""What can be asked of schedules, and firing those that are due.

Any number of processes fire the same schedules, and none of them leads. The job of a firing has an id
that follows from the schedule and the moment, so that only the first of them makes it; then the
schedule moves on, if it still is as it was read. Whoever dies between the two has done no harm
(docs/decisions/0014).
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
"""How often a change is made anew; only many writers of one schedule ever need a second."""


class Scheduler:
    """The schedules in a store; ``runs`` drafts the runs that those of groups submit (None: no groups)."""

    def __init__(self, store: Store, runs: Runs | None = None) -> None:
        self._store = store
        self._runs = runs
        self._complained: set[str] = set()

    async def put(self, made: Schedule, paused: bool | None = None) -> tuple[Schedule, bool]:
        """Create a schedule, or replace what has its name; whether there was none.

        One that goes on in the same rhythm keeps its next firing; ``paused`` None leaves it as it was.
        """
        for _ in range(MAX_TRIES):
            before, now = await self._look(made.name), self._store.now()
            schedule = await asyncio.to_thread(_put, before, made, paused, now)
            if await self._store.put_schedule(schedule):
                return schedule, before is None
        raise _keeps_changing(made.name)

    async def declare(self, made: Schedule) -> None:
        """Put what code or a file declares, unless it was put before just as it is declared now."""
        before = await self._look(made.name)
        if before is None or before.declared != made.declared:
            await self.put(made)

    async def find(self, name: str) -> Schedule:
        """The schedule. Raises `NotFound`."""
        found = await self._look(name)
        if found is None:
            raise _absent(name)
        return found

    async def list_schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return await self._store.schedules()

    async def pause(self, name: str) -> Schedule:
        """Let a schedule fire no more until it is resumed. Raises `NotFound`."""
        return await self._change(name, lambda schedule: replace(schedule, paused=True))

    async def resume(self, name: str) -> Schedule:
        """Let a paused schedule fire again; what fell into the pause is left out. Raises `NotFound`."""
        return await self._change(
            name, lambda schedule: _next(replace(schedule, paused=False), self._store.now())
        )

    async def delete(self, name: str) -> None:
        """Remove a schedule; its jobs stay. Raises `NotFound`."""
        for _ in range(MAX_TRIES):
            before = await self.find(name)
            if await self._store.put_schedule(replace(before, rev=before.rev + 1, removed=True)):
                return
        raise _keeps_changing(name)

    async def job_now(self, name: str) -> Job:
        """The draft of a job beside those of its firings, to be run now. Raises `NotFound`."""
        schedule = await self.find(name)
        return _dated(schedule, self._template(schedule), new_id(), None, self._store.now())

    async def upcoming(self, *schedules: Schedule) -> list[list[float]]:
        """The next firings of each; none of those that are paused."""
        return await asyncio.to_thread(lambda: [_upcoming(schedule) for schedule in schedules])

    async def fire(self, due: list[Schedule]) -> int:
        """Make the jobs of the firings of ``due`` schedules that have come; how many schedules moved on."""
        if not due:
            return 0
        plans = await asyncio.to_thread(self._plans, due, self._store.now())
        moved = await asyncio.gather(*(self._fire(*each) for each in plans), return_exceptions=True)
        for each in moved:
            if isinstance(each, BaseException):
                raise each
        return sum(each is True for each in moved)

    def _plans(self, due: list[Schedule], now: float) -> list[tuple[Schedule, Job, Plan]]:
        """What is to be done; a schedule that cannot be read here must not hold up the others."""
        plans = []
        for schedule in due:
            try:
                plans.append((schedule, self._template(schedule), plan(schedule, now)))
            except Exception as error:  # noqa: BLE001 - its zone or its group may not be known here
                if schedule.id not in self._complained:
                    self._complained.add(schedule.id)
                    logger.error("schedule %s cannot be fired here: %r", schedule.name, error)
        return plans

    def _template(self, schedule: Schedule) -> Job:
        """The job of each firing, but for its id and dates."""
        if schedule.group is None:
            return schedule.job
        if self._runs is None:
            raise NotFound(f"there is no group {schedule.group[:100]!r}")
        return replace(self._runs.draft(schedule.group, schedule.job.data), schedule=schedule.name)

    async def _fire(self, schedule: Schedule, template: Job, plan: Plan) -> bool:
        """Make the jobs first: a crash here has another make them again, which makes none twice."""
        now, last, last_job = self._store.now(), schedule.last, schedule.last_job
        jobs = [_dated(schedule, template, _id(schedule, at), at, now) for at in plan.firings]
        await self._store.commit([lifecycle.submit(job, now) for job in jobs])  # a conflict: it is there
        if jobs:
            last, last_job = plan.firings[-1], jobs[-1].id
        if plan.missed:
            logger.warning("schedule %s: firings were missed, %d or more", schedule.name, plan.missed)
        return await self._store.put_schedule(
            replace(schedule, rev=schedule.rev + 1, next=plan.next, last=last, last_job=last_job)
        )

    async def _look(self, name: str) -> Schedule | None:
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
        raise _keeps_changing(name)


def _put(before: Schedule | None, made: Schedule, paused: bool | None, now: float) -> Schedule:
    """What is to be written for a schedule that is put."""
    if before is None:
        fresh = replace(
            made, id=new_id(), rev=1, paused=made.paused if paused is None else paused, anchor=round(now, 3)
        )
        return _next(replace(fresh, created_at=now, updated_at=now), now)
    schedule = replace(
        made,
        id=before.id,
        rev=before.rev + 1,
        anchor=before.anchor,
        paused=before.paused if paused is None else paused,
        next=before.next,
        last=before.last,
        last_job=before.last_job,
        created_at=before.created_at,
        updated_at=now,
        declared=made.declared or before.declared,
    )
    if rhythm_of(schedule) == rhythm_of(before) and not before.paused:
        return schedule
    if schedule.every != before.every:
        schedule = replace(schedule, anchor=round(now, 3))
    return _next(schedule, now)


def _next(schedule: Schedule, now: float) -> Schedule:
    return replace(schedule, next=after(rhythm_of(schedule), now))


def _upcoming(schedule: Schedule) -> list[float]:
    if schedule.due is None:
        return []
    return [schedule.due, *islice(firings(rhythm_of(schedule), schedule.due), SHOWN - 1)]


def _id(schedule: Schedule, at: float) -> str:
    """The id of the job of a firing: the same for all who make it, and for no other firing."""
    return derived_id(at, f"{schedule.id} {schedule.name}".encode())


def _dated(schedule: Schedule, template: Job, job_id: str, at: float | None, now: float) -> Job:
    expires_at = None if schedule.expires_in is None else now + schedule.expires_in
    return replace(template, id=job_id, scheduled_at=at, expires_at=expires_at)


def _absent(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name[:100]!r}: GET /v1/schedule lists them")


def _keeps_changing(name: str) -> StoreUnavailable:
    return StoreUnavailable(f"schedule {name} keeps changing; try again")
