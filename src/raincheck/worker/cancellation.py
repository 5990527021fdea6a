"""Finds the attempts that have to stop: their job is to be cancelled, or their lease is lost.

The store notifies of changed jobs, the heartbeat of lost leases and newer revisions. Changed jobs are read in
batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Job
from raincheck.store.base import Missing, Store
from raincheck.worker.attempt import Inbox, InFlight, Reason, RunningAttempt


class Beat(NamedTuple):
    """The answer to a heartbeat for one lease: the revision of its job; None: the lease is lost."""

    token: int
    rev: int | None


class Cancellation:
    """Watches the jobs of the attempts ``in_flight``. The heartbeat puts its answers into ``beats``."""

    def __init__(self, store: Store, in_flight: InFlight) -> None:
        self._store = store
        self._in_flight = in_flight
        self.beats: Inbox[Beat | str] = Inbox()
        """Answers to heartbeats, and ids of jobs that have changed."""
        self._unlisten = store.listen(self._notify)

    async def next(self) -> list[tuple[RunningAttempt, Reason]]:
        """Wait for changes; return the attempts that have to stop because of them, and why."""
        stopping: list[tuple[RunningAttempt, Reason]] = []
        changed: set[str] = set()
        for item in await self.beats.take():
            if isinstance(item, str):
                changed.add(item)
            elif (attempt := self._in_flight.get(item.token)) is not None:
                if item.rev is None:
                    stopping.append((attempt, Reason.LOST))
                elif item.rev > attempt.job.rev:
                    changed.add(attempt.job.id)
        return stopping + await self._read(self._in_flight.running_jobs(dict.fromkeys(changed)))

    def close(self) -> None:
        """Stop watching."""
        self._unlisten()

    def _notify(self, jobs: Mapping[str, Job | None]) -> None:
        """Called from any thread for every change of any job: sorts out quickly those of other workers."""
        for job_id in self._in_flight.running_jobs(jobs or None):
            job = jobs.get(job_id)
            if job is None or job.state.ended or job.cancel_requested_at is not None:
                self.beats.put_from_thread(job_id)

    async def _read(self, job_ids: list[str]) -> list[tuple[RunningAttempt, Reason]]:
        """Read changed jobs; return their attempts that have to stop, and why."""
        if not job_ids:
            return []
        # listed before the jobs are read: steps claimed meanwhile are not among the leases read
        attempts = [self._in_flight.running(job_id) for job_id in job_ids]
        try:
            found = await self._store.find(job_ids)
        except StoreError:
            return []  # the next heartbeat notices it
        stopping: list[tuple[RunningAttempt, Reason]] = []
        for running, stored in zip(attempts, found, strict=True):
            if isinstance(stored, Missing):
                stopping += [(attempt, Reason.LOST) for attempt in running]
                continue
            self._in_flight.update(stored.job)
            tokens = {lease.token for lease in stored.leases}
            for attempt in running:
                if attempt.token not in tokens:
                    stopping.append((attempt, Reason.LOST))
                elif stored.job.cancel_requested_at is not None:
                    stopping.append((attempt, Reason.CANCELLED))
        return stopping
