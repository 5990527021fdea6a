"""Large results, which a store keeps beside the record of a job: loaded for callers that need them.

A job with loaded results is for documents and functions only. The lifecycle must not get one: it would write
the results into the record.
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
    """The jobs with their results loaded; with ``stages``, for each job those of one stage.

    None: the job was removed meanwhile. Does not read the store if no result is large.
    """
    absent = [_absent_results(job, None if stages is None else stages[i]) for i, job in enumerate(jobs)]
    if not any(absent):
        return list(jobs)
    keys = list(dict.fromkeys((job.id, i) for job, steps in zip(jobs, absent, strict=True) for i in steps))
    values = dict(zip(keys, await store.results(keys), strict=True))
    return [
        _with_results(job, {i: values[job.id, i] for i in steps})
        for job, steps in zip(jobs, absent, strict=True)
    ]


async def load_stored(
    store: Store, stored: Sequence[Stored], stages: Sequence[int] | None = None
) -> list[Stored | Missing]:
    """The jobs with their results loaded, as `load_results` does; one that was removed meanwhile is gone."""
    jobs = await load_results(store, [each.job for each in stored], stages)
    return [
        Missing(gone=True) if job is None else Stored(job, each.leases)
        for each, job in zip(stored, jobs, strict=True)
    ]


async def load_one(store: Store, stored: Stored) -> Stored:
    """The job with all its results loaded. Raises `Gone` if it was removed meanwhile."""
    if not _absent_results(stored.job, None):
        return stored
    (job,) = await load_results(store, [stored.job])
    if job is None:
        raise Gone(f"job {stored.job.id} ended and was removed")
    return Stored(job, stored.leases)


async def load_previous(store: Store, claims: Sequence[Claim]) -> list[bytes | None]:
    """``ctx.previous`` of each claim, as JSON; None: its job was removed meanwhile.

    Reads only the results of the stage before, once for all claims of a job.
    """
    stages = {(claim.job.id, claim.step.stage): claim.job for claim in claims}
    jobs = await load_results(store, list(stages.values()), [stage - 1 for _, stage in stages])
    previous = {
        key: None if job is None else previous_results(job, key[1])
        for key, job in zip(stages, jobs, strict=True)
    }
    return [previous[claim.job.id, claim.step.stage] for claim in claims]


def _absent_results(job: Job, stage: int | None) -> list[int]:
    """The steps whose results are not in the record."""
    return [
        i
        for i, step in enumerate(job.steps)
        if step.result_size is not None and step.result is None and (stage is None or step.stage == stage)
    ]


def _with_results(job: Job, results: dict[int, bytes | None]) -> Job | None:
    if not results:
        return job
    if None in results.values():
        return None
    steps = [replace(step, result=results.get(i, step.result)) for i, step in enumerate(job.steps)]
    return replace(job, steps=tuple(steps))
