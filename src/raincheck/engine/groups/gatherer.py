"""Looks after the runs of groups: sees that their members are there, and notices when all have ended.

Every process with maintenance does this for the members that end there. Nothing is counted: a member that
has ended stays so, and each run is read on from where it was left. Who dies leaves nothing undone,
for the run's alarm brings another to look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from threading import Lock
from typing import Self

from raincheck.core import lifecycle
from raincheck.core.errors import StoreError
from raincheck.core.model import Job, State, Stored
from raincheck.core.stages import gathering_step
from raincheck.engine.groups.members import cancel_members, first_open, gathered, open_members, size_of
from raincheck.engine.groups.run import member_ids
from raincheck.engine.jobs import Jobs
from raincheck.store.listeners import call_into

logger = logging.getLogger("raincheck.groups")

PAUSE = 0.02
"""Seconds between rounds, so that many ends are one look."""

REMEMBERED = 10_000
"""How many runs a process remembers its looks at; one that is forgotten is read from its start."""

AGAIN = 0.2
"""Seconds until a look that could not be, for the store was away or members are still being created."""


class _Seen:
    """What a process knows of a run that goes on."""

    def __init__(self) -> None:
        self.ended = 0
        """How many of its members have ended for sure: all before the first that had not."""
        self.cancelled: float | None = None
        """Which request to cancel it was passed on to its members, by its time."""


class Gatherer:
    """Does so while its context is open."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = Lock()
        self._due: dict[str, bool] = {}
        self._seen: dict[str, _Seen] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._heard = asyncio.Event()
        self._unlisten = self._jobs.store.listen(self._hear)
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._unlisten()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _hear(self, jobs: Mapping[str, Job | None]) -> None:
        """Note runs with members that ended, and runs that were themselves written; from any thread."""
        found = [job for job in jobs.values() if job is not None and job.group is not None]
        if not found:
            return
        with self._lock:
            for job in found:
                if job.run_of is not None and job.state.ended:
                    self._due.setdefault(job.run_of, False)
                elif job.run_of is None and job.rev > 1 and gathering_step(job) is not None:
                    self._due[job.id] = True
        call_into(self._loop, self._heard.set)

    def _again(self, run_id: str, rang: bool) -> None:
        with self._lock:
            self._due[run_id] = self._due.get(run_id, False) or rang
        self._heard.set()

    async def _work(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            with self._lock:
                due, self._due = self._due, {}
            for run_id, rang in due.items():
                await self._try(run_id, rang)
            await asyncio.sleep(PAUSE)

    async def _try(self, run_id: str, rang: bool) -> None:
        try:
            again = await self.look(run_id, rang)
        except StoreError as error:
            logger.debug("the run %s waits for the store: %s", run_id, error)
            again = True
        except Exception:  # its alarm brings somebody to look again
            logger.exception("the run %s could not be looked after", run_id)
            again = False
        if again:
            self._loop.call_later(AGAIN, self._again, run_id, rang)

    async def look(self, run_id: str, rang: bool = True) -> bool:
        """Do what a run needs now; whether it is to be looked at again soon.

        Its members are created only if it ``rang``: else somebody is just doing so.
        """
        (found,) = await self._jobs.store.find([run_id])
        index = gathering_step(found.job) if isinstance(found, Stored) else None
        if index is None or not isinstance(found, Stored):
            self._seen.pop(run_id, None)
            return False
        run = found.job
        if run.steps[index].state is State.DOING:
            return await self._gather(run)
        if run.steps[index].state is State.PENDING and rang:
            return await open_members(self._jobs, run) is None
        return run.steps[index].state is State.PENDING

    async def _gather(self, run: Job) -> bool:
        seen = self._seen.setdefault(run.id, _Seen())
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if run.cancel_requested_at not in (None, seen.cancelled):
            await cancel_members(self._jobs, run)
            seen.cancelled = run.cancel_requested_at
        seen.ended, size = await first_open(self._jobs, run, seen.ended), size_of(run)
        if seen.ended < size:
            return False
        trigger = await gathered(self._jobs, member_ids(run.id, size))
        if isinstance(trigger, int):
            seen.ended = trigger
            return False
        self._seen.pop(run.id, None)
        change = lifecycle.advance(run, [trigger], self._jobs.store.now())
        return await self._jobs.store.commit([change]) != [None]
