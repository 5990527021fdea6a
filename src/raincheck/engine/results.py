"""Large results, which stores keep beside a job's record: put back for callers that need them.

A job with its results put back is for showing, or for a function: it is never handed to the lifecycle, which
would write them into the record.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from raincheck.core.errors import Gone
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import Claim, Job, Stored
from raincheck.store.base import Missing, Store


async def load_results(
    store: Store, jobs: Sequence[Job], stages: Sequence[int] | None = None
) -> list[Job | None]:
    """The jobs with their results put back, for each those of one of its ``stages`` alone.

    None: the job was removed meanwhile. Reads nothing if no result is large.
    """
    wanted = [_absent(job, None if stages is None else stages[i]) for i, job in enumerate(jobs)]
    spots = list(dict.fromkeys((job.id, i) for job, steps in zip(jobs, wanted, strict=True) for i in steps))
    if not spots:
        return list(jobs)
    values = dict(zip(spots, await store.results(spots), strict=True))
    return [
        _filled(job, {i: values[job.id, i] for i in steps}) for job, steps in zip(jobs, wanted, strict=True)
    ]


async def load_stored(store: Store, stored: Sequence[Stored]) -> list[Stored | Missing]:
    """Stored jobs with all their results put back; one that was removed meanwhile is gone."""
    jobs = await load_results(store, [each.job for each in stored])
    return [
        Missing(gone=True) if job is None else Stored(job, each.leases)
        for each, job in zip(stored, jobs, strict=True)
    ]


async def load_one(store: Store, stored: Stored) -> Stored:
    """A stored job with all its results put back. Raises `Gone` if it was removed meanwhile."""
    (loaded,) = await load_stored(store, [stored])
    if isinstance(loaded, Missing):
        raise Gone(f"job {stored.job.id} ended, and was removed since")
    return loaded


async def load_previous(store: Store, claims: Sequence[Claim]) -> list[bytes | None]:
    """What ``ctx.previous`` is for each claim, as JSON; None: its job was removed meanwhile.

    Reads the results of the stage before alone, for all claims of one job once.
    """
    stages = {(claim.job.id, claim.step.stage): claim.job for claim in claims}
    jobs = await load_results(store, list(stages.values()), [stage - 1 for _, stage in stages])
    previous = {
        spot: None if job is None else previous_results(job, spot[1])
        for spot, job in zip(stages, jobs, strict=True)
    }
    return [previous[claim.job.id, claim.step.stage] for claim in claims]


def _absent(job: Job, stage: int | None) -> list[int]:
    """The steps whose results are to be read."""
    return [
        i
        for i, step in enumerate(job.steps)
        if step.result_size is not None and step.result is None and stage in (None, step.stage)
    ]


def _filled(job: Job, results: dict[int, bytes | None]) -> Job | None:
    if not results:
        return job
    if None in results.values():
        return None
    steps = [replace(step, result=results.get(i, step.result)) for i, step in enumerate(job.steps)]
    return replace(job, steps=tuple(steps))
