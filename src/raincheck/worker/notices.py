"""Hears that a job being run here is to be cancelled, has ended otherwise, or is no longer ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from raincheck.errors import StoreError
from raincheck.model import Claim, Job
from raincheck.store.base import Missing, Store
from raincheck.store.signals import call_into
from raincheck.worker.run import Reason, Run


class Notices:
    """Tells runs to ``stop`` when the store says so."""

    def __init__(self, store: Store, stop: Callable[[Run, Reason], None]) -> None:
        self._store = store
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, set[Run]] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._unlisten = store.listen(self._heard)

    def begin(self, run: Run) -> None:
        """Look after this run from now on."""
        self._runs.setdefault(run.claim.job.id, set()).add(run)

    def end(self, run: Run) -> None:
        """It is over."""
        runs = self._runs.get(run.claim.job.id)
        if runs is not None:
            runs.discard(run)
            if not runs:
                del self._runs[run.claim.job.id]

    def changed(self, run: Run, rev: int | None) -> None:
        """The lease of a run is lost (None), or its job has another revision now."""
        if rev is None:
            self._stop(run, Reason.LOST)
        else:
            self._check([run.claim.job.id])

    def _heard(self, jobs: Mapping[str, Job | None]) -> None:
        """Called from any thread, for every change anybody made: quick to see what is not for us."""
        if not self._runs:
            return
        ids = self._runs.keys() & jobs.keys() if jobs else list(self._runs)
        asked = [i for i in ids if (job := jobs.get(i)) is None or _stops(job)]
        if asked:
            call_into(self._loop, self._check, asked)

    def _check(self, job_ids: Iterable[str]) -> None:
        task = asyncio.create_task(self._look([i for i in job_ids if i in self._runs]))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _look(self, job_ids: list[str]) -> None:
        with suppress(StoreError):  # the next extension of the lease will tell
            for job_id, found in zip(job_ids, await self._store.find(job_ids), strict=True):
                for run in list(self._runs.get(job_id, ())):
                    if isinstance(found, Missing) or all(x.token != run.held.token for x in found.leases):
                        self._stop(run, Reason.LOST)
                        continue
                    run.claim = Claim(found.job, run.claim.lease)
                    if found.job.cancel_requested_at is not None:
                        self._stop(run, Reason.CANCELLED)

    def close(self) -> None:
        """Hear no more."""
        self._unlisten()
        for task in self._checks:
            task.cancel()


def _stops(job: Job) -> bool:
    return job.state.ended or job.cancel_requested_at is not None
