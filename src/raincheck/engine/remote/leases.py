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


async def find_leases(store: Store, worker_id: str, held: Sequence[Held]) -> list[ActiveLease | Absent]:
    """Each of these leases as it is now. Reads each job once."""
    ids = list(dict.fromkeys(each.job_id for each in held))
    jobs = dict(zip(ids, await store.find(ids) if ids else (), strict=True))
    found: list[ActiveLease | Absent] = []
    for each in held:
        stored = jobs[each.job_id]
        if isinstance(stored, Missing):
            found.append("lost" if stored.gone else "unknown")
            continue
        lease = next(
            (one for one in stored.leases if one.token == each.token and one.step == each.step), None
        )
        if lease is None:
            found.append("lost")
        else:
            found.append(ActiveLease(stored.job, lease) if lease.worker == worker_id else "foreign")
    return found
