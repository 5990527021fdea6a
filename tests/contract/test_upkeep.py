"""What every store tells and does for maintenance: due, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raincheck.core.model import Key, RetryOptions, State
from raincheck.core.triggers import Check
from raincheck.store.base import Conflict, Ended, Filter, Missing, Store
from tests.contract.leaks import listed
from tests.contract.steps import (
    HOUR,
    after,
    cancelled,
    done,
    draft,
    extend,
    failed,
    finish,
    get,
    held,
    later,
    look,
    lost,
    prune,
    removed,
    submission,
    submit,
    submit_many,
    take,
    take_one,
    write,
)

AGAIN_AT_ONCE = RetryOptions(retry_limit=10, delay=0.0)


class TestLost:
    """Leases that have run out."""

    async def test_a_lease_that_ran_out_is_lost(self, store: Store) -> None:
        """With its job, and all that is known of the attempt."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        assert (await store.due(10)).leases == [claim]

    async def test_a_lease_that_runs_is_not_lost(self, store: Store) -> None:
        """Nor one that ended, nor one given back."""
        await submit_many(store, 3, "f")
        ended, released, _ = await take(store)
        await finish(store, ended)
        await store.release([held(released)])
        assert (await store.due(10)).leases == []

    async def test_no_more_are_told_than_asked_for(self, store: Store) -> None:
        """The rest is told once those are dealt with."""
        await submit_many(store, 5, "f")
        claims = await take(store, lease=0.0)
        told = []
        while part := (await store.due(2)).leases:
            assert len(part) <= 2
            told += [claim.lease.token for claim in part]
            assert await store.commit([lost(store, claim) for claim in part]) == [None] * len(part)
        assert sorted(told) == sorted(claim.lease.token for claim in claims)

    async def test_a_lost_step_can_be_claimed_again(self, store: Store) -> None:
        """By anyone, once it is known to be lost."""
        job = await submit(store, "f")
        claim = await take_one(store, lease=0.0, worker="dead")
        assert await take(store) == []
        assert await write(store, lost(store, claim)) is None
        again = await take_one(store, worker="alive")
        assert (again.job.id, again.step.lost_count, again.lease.worker) == (job.id, 1, "alive")

    async def test_of_many_that_notice_one_acts(self, store: Store, another: Callable[[], Store]) -> None:
        """A step is not put back twice."""
        other = another()
        await other.open()
        await submit(store, "f")
        await take_one(store, lease=0.0)
        seen = [(each, claim) for each in (store, other) * 3 for claim in (await each.due(10)).leases]
        outcomes = await asyncio.gather(*(write(each, lost(each, claim)) for each, claim in seen))
        assert (len(outcomes), outcomes.count(None)) == (6, 1)
        assert (await store.counts()).queued == {"f": 1}

    async def test_a_fresh_attempt_keeps_its_lease_from_who_saw_the_old_one(self, store: Store) -> None:
        """A sweeper that comes late does nothing, whatever has happened since."""
        job = await submit(store, "f")
        await take_one(store, lease=0.0)
        (seen,) = (await store.due(10)).leases
        assert await write(store, failed(store, seen, AGAIN_AT_ONCE)) is None
        fresh = await take_one(store)
        assert await write(store, lost(store, seen)) is not None
        assert (await get(store, job.id)).leases == (fresh.lease,)

    async def test_progress_is_told_with_a_lost_lease(self, store: Store) -> None:
        """How far the attempt came is not lost with it."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        assert await store.report(held(claim), b"0.7")
        assert [each.lease.progress for each in (await store.due(10)).leases] == [b"0.7"]


class TestAlarmed:
    """Jobs that are to be looked at."""

    async def test_a_job_is_alarmed_when_its_time_has_come(self, store: Store) -> None:
        """With the leases in force on it, and not before."""
        job = await submit(store, "f", "g", expires_at=later(store, 0.0))
        await submit(store, "f", expires_at=later(store, HOUR))
        claim = next(claim for claim in await take(store) if claim.job.id == job.id)
        (stored,) = (await store.due(10)).jobs
        assert (stored.job, stored.leases) == (job, (claim.lease,))

    async def test_a_job_without_an_alarm_is_never_alarmed(self, store: Store) -> None:
        """However long it waits."""
        change = submission(store, draft("f"))
        assert change.check_at is None
        assert await write(store, change) is None
        assert (await store.due(10)).jobs == []

    async def test_an_alarm_that_was_answered_is_over(self, store: Store) -> None:
        """The change that follows sets the next one."""
        job = await submit(store, "f", expires_at=later(store, 0.0))
        assert await write(store, after(store, job, Check())) is None
        assert (await store.due(10)).jobs == []
        assert (await get(store, job.id)).job.state is State.FAILED

    async def test_an_ended_job_is_not_alarmed(self, store: Store) -> None:
        """Its alarm is for pruning."""
        await done(store, result_ttl=0.0, expires_at=later(store, HOUR))
        assert (await store.due(10)).jobs == []

    async def test_the_longest_overdue_come_first(self, store: Store) -> None:
        """No more than asked for."""
        now = store.now()
        jobs = [await submit(store, "f", expires_at=now - age) for age in (1, 3, 2)]
        assert [stored.job.id for stored in (await store.due(2)).jobs] == [jobs[1].id, jobs[2].id]


class TestPrune:
    """Retention."""

    async def test_an_ended_job_goes_when_its_time_is_over(self, store: Store) -> None:
        """It is gone, not unknown."""
        job, kept = await done(store, result_ttl=0.0), await done(store, result_ttl=HOUR)
        assert await prune(store, 10, HOUR) == 1
        assert await look(store, job.id) == Missing(gone=True)
        assert (await get(store, kept.id)).job == kept

    async def test_an_unfinished_job_is_never_pruned(self, store: Store) -> None:
        """Whatever its time to be kept, and whatever alarm has rung."""
        waiting = await submit(store, "f", result_ttl=0.0, expires_at=later(store, 0.0))
        assert await prune(store, 10, HOUR) == 0
        assert (await get(store, waiting.id)).job == waiting

    async def test_every_end_is_pruned(self, store: Store) -> None:
        """Failed and cancelled jobs too."""
        await submit(store, "f", result_ttl=0.0)
        assert await write(store, failed(store, await take_one(store))) is None
        job = await submit(store, "f", result_ttl=0.0)
        assert await write(store, cancelled(store, await get(store, job.id))) is None
        assert await prune(store, 10, HOUR) == 2
        assert await listed(store, Filter()) == []

    async def test_no_more_are_removed_than_asked_for(self, store: Store) -> None:
        """The rest goes the next time, the longest overdue first."""
        jobs = [await done(store, result_ttl=0.0) for _ in range(5)]
        assert await prune(store, 2, HOUR) == 2
        assert [isinstance(each, Missing) for each in await store.find([job.id for job in jobs])] == [
            True,
            True,
            False,
            False,
            False,
        ]
        assert [await prune(store, 2, HOUR) for _ in range(3)] == [2, 1, 0]

    async def test_a_pruned_job_is_in_no_listing(self, store: Store) -> None:
        """Neither by name, nor by function, nor by state."""
        job = await done(store, result_ttl=0.0)
        assert await prune(store, 10, HOUR) == 1
        function = job.steps[0].function
        for which in (Filter(), Filter(name="job"), Filter(function=function), Filter(states=(State.DONE,))):
            assert await listed(store, which) == []

    async def test_a_memory_runs_out(self, store: Store) -> None:
        """From then on the id never was."""
        job = await done(store, result_ttl=0.0)
        assert await prune(store, 10, 0.0) == 1
        assert await look(store, job.id) == Missing(gone=False)

    async def test_a_job_that_is_gone_cannot_be_submitted_again(self, store: Store) -> None:
        """A request that is sent again after all that time does not run its job once more."""
        job = await done(store, result_ttl=0.0)
        assert await prune(store, 10, HOUR) == 1
        assert await write(store, submission(store, draft("f", id=job.id))) == Conflict()
        assert await look(store, job.id) == Missing(gone=True)

    async def test_an_id_that_is_remembered_no_more_can_be_used(self, store: Store) -> None:
        """What is there is not gone."""
        job = await done(store, result_ttl=0.0)
        assert await prune(store, 10, 0.0) == 1
        again = submission(store, draft("f", id=job.id))
        assert await write(store, again) is None
        assert (await get(store, job.id)).job == again.job

    async def test_a_key_outlives_its_pruned_job(self, store: Store) -> None:
        """A request sent again makes no second job as long as its key is remembered."""
        key = Key("k", b"", later(store, HOUR))
        change = submission(store, draft("f", result_ttl=0.0), key)
        assert await write(store, change) is None
        await finish(store, await take_one(store))
        assert await prune(store, 10, HOUR) == 1
        assert await write(store, submission(store, draft("f"), key)) is not None

    async def test_pruning_leaves_keys_that_have_not_run_out(self, store: Store) -> None:
        """And removes the others, so that they can be used again."""
        keys = [Key("old", b"", later(store, 0.0)), Key("new", b"", later(store, HOUR))]
        assert await store.commit([submission(store, draft("f"), key) for key in keys]) == [None, None]
        assert await prune(store, 10, HOUR) == 0
        outcomes = await store.commit([submission(store, draft("f"), key) for key in keys])
        assert [outcome is None for outcome in outcomes] == [True, False]


class TestRemove:
    """Remove jobs before their time."""

    async def test_an_ended_job_is_forgotten(self, store: Store) -> None:
        """Before its time; it is gone, not unknown."""
        job = await done(store)
        assert await removed(store, job) == [True]
        assert await look(store, job.id) == Missing(gone=True)

    async def test_a_job_may_be_forgotten_without_a_trace(self, store: Store) -> None:
        """When it is to be remembered for no time at all."""
        job = await done(store)
        assert await removed(store, job, remember=0.0) == [True]
        assert await look(store, job.id) == Missing(gone=False)

    async def test_a_job_that_has_not_ended_is_kept(self, store: Store) -> None:
        """Whether it waits or is being done."""
        job = await submit(store, "f")
        assert await removed(store, job) == [False]
        await take_one(store)
        assert await removed(store, job) == [False]
        assert (await get(store, job.id)).job == job

    async def test_a_job_that_has_changed_is_kept(self, store: Store) -> None:
        """Whoever wants to remove it looks again."""
        job = await done(store)
        others = [Ended(job.id, job.rev - 1), Ended(job.id, job.rev + 1)]
        assert await store.remove(others, HOUR) == [False, False]
        assert (await get(store, job.id)).job == job

    async def test_an_unknown_job_cannot_be_forgotten(self, store: Store) -> None:
        """Nor one forgotten already."""
        job = await done(store)
        assert await store.remove([Ended("unknown", 1)], HOUR) == [False]
        assert [await removed(store, job) for _ in range(2)] == [[True], [False]]

    async def test_of_many_who_forget_one_does(self, store: Store) -> None:
        """It is counted once."""
        job = await done(store)
        results = await asyncio.gather(*(removed(store, job) for _ in range(20)))
        assert results.count([True]) == 1

    async def test_forgetting_and_extending_do_not_meet(self, store: Store) -> None:
        """A worker that comes back finds its lease lost."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        change = lost(store, claim, RetryOptions(lost_limit=0))
        assert await write(store, change) is None
        assert await removed(store, change.job) == [True]
        assert await extend(store, [claim], HOUR) == [None]
        assert await store.report(held(claim), b"1") is False
