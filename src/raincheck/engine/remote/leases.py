"""The leases that a worker names: read from the store, and checked to be in force and its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from raincheck.core.model import Job, Lease, Step
from raincheck.store.base import Held, Missing, Store

Absent = Literal["lost", "unknown", "foreign"]
"""Why a worker does not hold a lease: it ended, there is no such job, or it is one of another worker."""


class ActiveLease(NamedTuple):
    """A lease in force, and its job."""

    job: Job
    lease: Lease

    @property
    def step(self) -> Step:
        """The step that the lease is for."""
        return self.job.steps[self.lease.step]

    def timeout(self, of_function: float | None) -> float | None:
        """Seconds that the attempt may take: those of the step, else those of its function."""
        return of_function if self.step.timeout is None else self.step.timeout


class Named(NamedTuple):
    """A lease that a worker names."""

    worker_id: str
    held: Held


async def find_leases(store: Store, named: Sequence[Named]) -> list[ActiveLease | Absent]:
    """Each of these leases as it is now. Reads each job once."""
    ids = list(dict.fromkeys(each.held.job_id for each in named))
    jobs = dict(zip(ids, await store.find(ids) if ids else (), strict=True))
    found: list[ActiveLease | Absent] = []
    for worker_id, held in named:
        stored = jobs[held.job_id]
        if isinstance(stored, Missing):
            found.append("lost" if stored.gone else "unknown")
            continue
        same = (lease for lease in stored.leases if (lease.token, lease.step) == (held.token, held.step))
        if (lease := next(same, None)) is None:
            found.append("lost")
        else:
            found.append(ActiveLease(stored.job, lease) if lease.worker == worker_id else "foreign")
    return found
