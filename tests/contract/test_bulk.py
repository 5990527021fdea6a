"""Operations on many jobs, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from raincheck import Limits
from raincheck.core.model import Job, State
from raincheck.engine.bulk import change_jobs
from raincheck.engine.filters import BulkResult, Operation
from raincheck.engine.jobs import Jobs
from raincheck.store.base import Filter, Store
from tests.contract.leaks import listed
from tests.contract.steps import done, fail_all, state_of, submit, submit_many, take


async def change(store: Store, operation: Operation, which: Filter, limit: int = 1000) -> BulkResult:
    """All parts of an operation."""
    jobs, result = Jobs(store, Limits()), BulkResult()
    while True:
        result = result.plus(await change_jobs(jobs, operation, which, limit, result.cursor))
        if result.cursor is None:
            return result


async def test_all_that_match_change_and_no_other(store: Store) -> None:
    """In parts of any size, and in every shard."""
    await submit_many(store, 250, "f", name="mine")
    other = await submit(store, "f", name="other")
    for limit in (90, 1000):
        result = await change(store, Operation.CANCEL, Filter(name="mine"), limit)
        assert (result.matched, result.changed, result.skipped) == (250, 250, {})
        assert (await store.counts()).states[State.CANCELLED] == 250
        result = await change(store, Operation.RETRY, Filter(function="f"), limit)
        assert (result.matched, result.changed) == (250, 250)
    await change(store, Operation.CANCEL, Filter(name="mine"))
    assert (await change(store, Operation.DELETE, Filter(name="mine"), 90)).changed == 250
    assert [stored.job.id for stored in await listed(store, Filter())] == [other.id]


async def test_a_job_that_others_change_meanwhile_is_decided_again(store: Store) -> None:
    """Several callers do the same at once: each job changes once, and all agree on the end."""
    await submit_many(store, 120, "f")
    await fail_all(store, "f")
    calls = [change(store, Operation.RETRY, Filter(states=(State.FAILED,)), 50) for _ in range(3)]
    results = await asyncio.gather(*calls)
    assert sum(result.changed for result in results) == 120
    jobs = await listed(store, Filter())
    assert {(stored.job.state, stored.job.run) for stored in jobs} == {(State.PENDING, 2)}
    for result in results:
        assert result.matched == result.changed + sum(result.skipped.values())


async def test_running_jobs_are_told_and_told_once(store: Store) -> None:
    """They keep their leases; a second time there is nothing to change."""
    await submit_many(store, 30, "f")
    claims = await take(store, limit=30)
    for changed, skipped in ((30, {}), (0, {"unchanged": 30})):
        result = await change(store, Operation.CANCEL, Filter(function="f"))
        assert (result.changed, result.skipped) == (changed, skipped)
    assert {await state_of(store, claim.job.id) for claim in claims} == {State.DOING}


async def test_a_dry_run_changes_nothing(store: Store) -> None:
    """It counts what would change."""
    jobs = [await done(store) for _ in range(3)]
    result = await change_jobs(
        Jobs(store, Limits()), Operation.DELETE, Filter(states=(State.DONE,)), 1000, dry_run=True
    )
    assert (result.matched, result.changed, result.dry_run) == (3, 3, True)
    assert len(await listed(store, Filter())) == len(jobs)


async def test_few_jobs_with_many_steps_change_together(store: Store) -> None:
    """Such a job takes long to decide, and the other tasks of the event loop wait that long."""
    changed: list[int] = []

    def count(jobs: Mapping[str, Job | None]) -> None:
        changed.append(sum(job is not None and job.state is State.CANCELLED for job in jobs.values()))

    await submit_many(store, 5, ("f",) * 1000)
    unlisten = store.listen(count)
    result = await change(store, Operation.CANCEL, Filter())
    unlisten()
    assert (result.matched, result.changed) == (5, 5)
    assert 0 < max(changed) <= 2
