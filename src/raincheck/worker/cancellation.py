"""Finds the attempts that have to stop: their job is to be cancelled, or their lease is lost.

The store tells of changed jobs, the heartbeat of leases and revisions; the jobs are read in batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Job
from raincheck.store.base import Missing, Store
from raincheck.worker.attempt import Inbox, InFlight, Reason, RunningAttempt


class Beat(NamedTuple):
    """What the heartbeat learned of a lease: the revision of its job, or None if the lease is lost."""

    token: int
    rev: int | None


class Cancellation:
    """Hears of changes of the jobs ``in_flight``; ``beats`` are what the heartbeat puts in."""

    def __init__(self, store: Store, in_flight: InFlight) -> None:
        self._store = store
        self._in_flight = in_flight
        self._inbox: Inbox[Beat | str] = Inbox()
        self._unlisten = store.listen(self._heard)

    @property
    def beats(self) -> Inbox[Beat | str]:
        """Where the heartbeat puts what it learns."""
        return self._inbox

    async def next(self) -> list[tuple[RunningAttempt, Reason]]:
        """Wait for changes; the attempts that have to stop because of them, and why."""
        stopping: list[tuple[RunningAttempt, Reason]] = []
        changed: set[str] = set()
        for item in await self._inbox.take():
            if isinstance(item, str):
                changed.add(item)
            elif (attempt := self._in_flight.get(item.token)) is not None:
                if item.rev is None:
                    stopping.append((attempt, Reason.LOST))
                elif item.rev > attempt.job.rev:
                    changed.add(attempt.job.id)
        return stopping + await self._look(self._in_flight.running_jobs(dict.fromkeys(changed)))

    def close(self) -> None:
        """Hear no more."""
        self._unlisten()

    def _heard(self, jobs: Mapping[str, Job | None]) -> None:
        """Called from any thread, for every change anybody made: quick to see what is not for us."""
        for job_id in self._in_flight.running_jobs(jobs or None):
            job = jobs.get(job_id)
            if job is None or job.state.ended or job.cancel_requested_at is not None:
                self._inbox.put_from_thread(job_id)

    async def _look(self, job_ids: list[str]) -> list[tuple[RunningAttempt, Reason]]:
        """Read jobs that have changed."""
        if not job_ids:
            return []
        # before the jobs are read: what is claimed meanwhile is no lost lease
        attempts = [self._in_flight.running(job_id) for job_id in job_ids]
        try:
            found = await self._store.find(job_ids)
        except StoreError:
            return []  # the next heartbeat will tell
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
