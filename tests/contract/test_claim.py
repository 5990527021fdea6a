"""What every store does with claims."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from raincheck.core import lifecycle
from raincheck.core.clock import monotonic
from raincheck.core.model import Claim
from raincheck.store.base import Store
from tests.contract.steps import (
    HOUR,
    SOON,
    draft,
    finish,
    get,
    held,
    later,
    settle,
    submit,
    submit_many,
    take,
    take_one,
    waiting,
)


class TestClaiming:
    """What is claimed, and by whom."""

    async def test_a_wide_job_is_read_once(self, store: Store) -> None:
        """However many of its steps one claim takes: its record is neither sent nor decoded for each."""
        job = await submit(store, ("f",) * 150, "g")
        other = await submit(store, "f")
        claims = await take(store, limit=500)
        assert sorted(claim.lease.step for claim in claims if claim.job.id == job.id) == [*range(150)]
        assert len({id(claim.job) for claim in claims}) == 2
        assert {claim.job.id: claim.job for claim in claims} == {job.id: job, other.id: other}
        assert len((await get(store, job.id)).leases) == 150

    async def test_a_claim_is_the_job_and_a_lease_on_one_step(self, store: Store) -> None:
        """The lease is what the worker will show from now on."""
        job = await submit(store, ("f", "g"))
        before = store.now()
        (claim,) = await store.claim("worker-1", ("g",), 1, 60.0)
        assert (claim.job, claim.step.function, claim.lease.worker) == (job, "g", "worker-1")
        assert before <= claim.lease.since <= store.now()
        assert claim.lease.until == claim.lease.since + 60.0
        assert (await get(store, job.id)).leases == (claim.lease,)

    async def test_nothing_ready_is_no_claim(self, store: Store) -> None:
        """Without waiting, the answer is empty."""
        assert await take(store, "f") == []

    async def test_a_step_is_claimed_once(self, store: Store) -> None:
        """What is leased is not in the queue."""
        await submit(store, "f")
        assert [len(await take(store)) for _ in range(3)] == [1, 0, 0]

    async def test_no_more_is_claimed_than_asked_for(self, store: Store) -> None:
        """The rest stays for others."""
        await submit_many(store, 10, "f")
        assert [len(await take(store, limit=4)) for _ in range(4)] == [4, 4, 2, 0]

    async def test_functions_not_asked_for_are_left_alone(self, store: Store) -> None:
        """A worker gets what it offers, whatever else waits."""
        await submit_many(store, 3, "unknown")
        job = await submit(store, "f")
        assert [claim.job.id for claim in await take(store, "f", "never submitted")] == [job.id]
        assert (await store.counts()).queued == {"unknown": 3}

    async def test_who_offers_nothing_gets_nothing(self, store: Store) -> None:
        """No functions, no steps."""
        await submit(store, "f")
        assert await store.claim("w", (), 10, HOUR) == []

    async def test_a_function_named_twice_is_served_once(self, store: Store) -> None:
        """Its steps are not leased twice."""
        jobs = await submit_many(store, 3, "f")
        claims = await take(store, "f", "f", limit=10)
        assert sorted(claim.job.id for claim in claims) == sorted(job.id for job in jobs)

    async def test_tokens_are_never_used_twice(self, store: Store, another: Callable[[], Store]) -> None:
        """Neither in a batch, nor between processes, nor after a step was given back."""
        other = another()
        await other.open()
        tokens = []
        await submit_many(store, 4, "f")
        for each in (store, other, store):
            claims = await take(each, limit=4)
            tokens += [claim.lease.token for claim in claims]
            await each.release([held(claim) for claim in claims])
        assert len(set(tokens)) == 12


class TestOrder:
    """Which comes first."""

    async def test_what_was_due_first_is_claimed_first(self, store: Store) -> None:
        """Also when it was submitted later, and one by one."""
        ids = {}
        for age in (1, 3, 2):
            change = lifecycle.submit(draft("f"), store.now() - age)
            assert await store.commit([change]) == [None]
            ids[age] = change.job.id
        assert [(await take_one(store)).job.id for _ in range(3)] == [ids[3], ids[2], ids[1]]

    async def test_higher_priority_is_claimed_first(self, store: Store) -> None:
        """Before what was due earlier; below zero is lower than zero."""
        jobs = {p: await submit(store, "f", priority=p) for p in (0, -1000, 5, 1000, -1)}
        claims = await take(store, limit=3) + await take(store)
        assert [claim.job.id for claim in claims] == [jobs[p].id for p in (1000, 5, 0, -1, -1000)]

    async def test_of_equal_priority_what_was_due_first_is_first(self, store: Store) -> None:
        """In the order of submission."""
        jobs = [await submit(store, "f", priority=p) for p in (0, 7, 0, 7)]
        claims = await take(store)
        assert [claim.job.id for claim in claims] == [jobs[i].id for i in (1, 3, 0, 2)]

    async def test_nothing_is_claimed_before_it_is_due(self, store: Store) -> None:
        """Whatever its priority."""
        await submit(store, "f", scheduled_at=later(store), priority=1000)
        now = await submit(store, "f")
        assert [claim.job.id for claim in await take(store)] == [now.id]

    async def test_a_claim_serves_functions_alike(self, store: Store) -> None:
        """The limit is shared between those that have something, and used up."""
        await submit_many(store, 100, "a")
        await submit_many(store, 100, "b")
        await submit_many(store, 2, "c")
        served = Counter(claim.step.function for claim in await take(store, "a", "b", "c", limit=32))
        assert served == {"a": 15, "b": 15, "c": 2}

    async def test_claims_of_one_serve_functions_in_turn(self, store: Store) -> None:
        """A busy function does not keep another waiting."""
        for function in ("a", "b", "c"):
            await submit_many(store, 20, function)
        claims = [await take_one(store, "a", "b", "c") for _ in range(12)]
        assert Counter(claim.step.function for claim in claims) == {"a": 4, "b": 4, "c": 4}

    async def test_functions_are_served_in_turn_whatever_other_workers_claim(self, store: Store) -> None:
        """Two workers that claim by turns do not fall into step with the turns of the functions."""
        for function in ("a", "b", "c"):
            await submit_many(store, 20, function)
        served: Counter[str] = Counter()
        for _ in range(10):
            served[(await take_one(store, "a", "b", worker="one")).step.function] += 1
            await take_one(store, "c", worker="two")
        assert served == {"a": 5, "b": 5}

    async def test_priority_holds_across_functions(self, store: Store) -> None:
        """Less urgent jobs of another function get what is left, however long they waited."""
        await submit_many(store, 10, "a", priority=-1000)
        urgent = await submit_many(store, 3, "b", priority=1000)
        claims = await take(store, "a", "b", limit=4)
        assert Counter(claim.step.function for claim in claims) == {"b": 3, "a": 1}
        assert {claim.job.id for claim in claims[:3]} == {job.id for job in urgent}

    async def test_claims_of_one_follow_priority(self, store: Store) -> None:
        """Also those that take a single step, whichever function was served last."""
        for function, priority in (("a", 0), ("b", 5), ("c", -5), ("a", 7), ("b", -7), ("c", 6)):
            await submit(store, function, priority=priority)
        claims = [await take_one(store, "a", "b", "c") for _ in range(6)]
        assert [claim.job.priority for claim in claims] == [7, 6, 5, 0, -5, -7]

    async def test_functions_share_each_priority(self, store: Store) -> None:
        """What the more urgent ones leave is shared alike."""
        for function, priority, count in (("a", 5, 3), ("a", 0, 10), ("b", 0, 10), ("c", 0, 1), ("d", -5, 9)):
            await submit_many(store, count, function, priority=priority)
        served = Counter(
            (claim.job.priority, claim.step.function)
            for claim in await take(store, "a", "b", "c", "d", limit=14)
        )
        assert served == {(5, "a"): 3, (0, "a"): 5, (0, "b"): 5, (0, "c"): 1}
        rest = await take(store, "a", "b", "c", "d", limit=30)
        assert [claim.job.priority for claim in rest] == [0] * 10 + [-5] * 9

    async def test_an_urgent_step_that_is_not_due_holds_up_nothing(self, store: Store) -> None:
        """Of its function or of another one."""
        await submit(store, "a", scheduled_at=later(store), priority=1000)
        await submit_many(store, 2, "a")
        await submit_many(store, 2, "b")
        claims = await take(store, "a", "b")
        assert Counter(claim.step.function for claim in claims) == {"a": 2, "b": 2}


@pytest.mark.usefixtures("woken")
class TestWaiting:
    """A claim that waits for something to do."""

    async def test_a_commit_wakes_a_claim(self, store: Store) -> None:
        """The step is handed over at once."""
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            job = await submit(store, "f")
            assert [claim.job.id for claim in await claiming] == [job.id]

    async def test_a_commit_by_another_process_wakes_a_claim(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """Soon after."""
        other = another()
        await other.open()
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            job = await submit(other, "f")
            assert [claim.job.id for claim in await claiming] == [job.id]

    async def test_a_step_given_back_wakes_a_claim(self, store: Store) -> None:
        """Whoever waits takes over."""
        await submit(store, "f")
        claim = await take_one(store)
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            await store.release([held(claim)])
            assert [again.job.id for again in await claiming] == [claim.job.id]

    async def test_the_next_step_of_a_chain_wakes_a_claim(self, store: Store) -> None:
        """A finish hands over, too."""
        await submit(store, "f", "g")
        claim = await take_one(store, "f")
        async with waiting(store, store.claim("w", ("g",), 1, HOUR, HOUR)) as claiming:
            await finish(store, claim)
            assert [again.lease.step for again in await claiming] == [1]

    async def test_a_claim_wakes_when_something_becomes_due(self, store: Store) -> None:
        """Without any commit, and never early."""
        due = later(store, 0.2)
        await submit(store, "f", scheduled_at=due)
        (claim,) = await store.claim("w", ("f",), 1, HOUR, HOUR)
        assert due <= claim.lease.since

    async def test_a_claim_wakes_for_a_due_time_that_came_while_it_waited(self, store: Store) -> None:
        """What is committed meanwhile sets the alarm anew."""
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            due = later(store, 0.2)
            await submit(store, "f", scheduled_at=due)
            (claim,) = await claiming
        assert due <= claim.lease.since

    async def test_a_claim_wakes_for_a_due_time_set_by_another_process(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """Also if what was ready of that function is gone already."""
        other = another()
        await other.open()
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            due = later(other, 0.2)
            submitting = submit(other, "f", scheduled_at=due)
            await submitting
            (claim,) = await claiming
        assert due <= claim.lease.since

    async def test_a_claim_waits_no_longer_than_it_may(self, store: Store) -> None:
        """With nothing to do, the answer is empty in time."""
        begun = monotonic()
        assert await store.claim("w", ("f",), 1, HOUR, 0.1) == []
        assert monotonic() - begun >= 0.1

    async def test_a_claim_is_not_woken_by_what_it_did_not_ask_for(self, store: Store) -> None:
        """Other functions, and its own not yet due."""
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, HOUR)) as claiming:
            await submit(store, "g")
            await submit(store, "f", scheduled_at=later(store))
            await settle(store)
            assert not claiming.done()

    async def test_who_waited_longest_is_served_first(self, store: Store) -> None:
        """One step goes to one of them; on a server to either, because one may just be looking again."""
        async with (
            waiting(store, store.claim("first", ("f",), 1, HOUR, HOUR)) as first,
            waiting(store, store.claim("second", ("f",), 1, HOUR, HOUR)) as second,
        ):
            await submit(store, "f")
            async with asyncio.timeout(SOON):
                served, others = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
            if store.kind == "sqlite":
                assert served == {first}
            await settle(store)
            assert [each.done() for each in others] == [False]

    async def test_a_burst_serves_all_who_wait(self, store: Store) -> None:
        """Each gets a step, though none looks by itself."""
        claims = [asyncio.create_task(store.claim(f"w{n}", ("f",), 1, HOUR, HOUR)) for n in range(30)]
        await settle(store)
        jobs = await submit_many(store, 30, "f")
        async with asyncio.timeout(SOON):
            served = await asyncio.gather(*claims)
        assert sorted(claim.job.id for (claim,) in served) == sorted(job.id for job in jobs)

    async def test_those_of_other_functions_are_served_too(self, store: Store) -> None:
        """By one commit; whoever offers both functions keeps nothing from the others."""
        async with (
            waiting(store, store.claim("both", ("f", "g"), 1, HOUR, HOUR)) as both,
            waiting(store, store.claim("f", ("f",), 1, HOUR, HOUR)) as one,
            waiting(store, store.claim("g", ("g",), 1, HOUR, HOUR)) as other,
        ):
            await submit(store, ("f", "g", "f", "g"))
            async with asyncio.timeout(SOON):
                await asyncio.gather(both, one, other)

    async def test_who_goes_on_for_one_that_gave_up_knows_what_is_due(self, store: Store) -> None:
        """The one that had seen the due time is gone."""
        first = asyncio.create_task(store.claim("first", ("f",), 1, HOUR, HOUR))
        await settle(store)
        async with waiting(store, store.claim("second", ("f",), 1, HOUR, HOUR)) as second:
            await submit(store, "f", scheduled_at=later(store, 0.2))
            await settle(store)
            first.cancel()
            async with asyncio.timeout(SOON):
                (claim,) = await second
        await asyncio.gather(first, return_exceptions=True)
        assert claim.lease.worker == "second"

    async def test_who_gives_up_as_a_step_comes_leaves_it_to_the_next(self, store: Store) -> None:
        """Whether it was woken or not."""
        for turns in range(8):
            first = asyncio.create_task(store.claim("gone", ("f",), 1, HOUR, HOUR))
            await settle(store)
            async with waiting(store, store.claim("next", ("f",), 1, HOUR, HOUR)) as following:
                await submit(store, "f")
                for _ in range(turns):
                    await asyncio.sleep(0)
                if first.cancel():
                    async with asyncio.timeout(SOON):
                        (claim,) = await following
                    await store.release([held(claim)])
            await asyncio.gather(first, return_exceptions=True)
            for left in await take(store, limit=10):
                await finish(store, left)

    async def test_a_claim_given_up_while_waiting_takes_nothing(self, store: Store) -> None:
        """What comes later is for others."""
        async with waiting(store, store.claim("gone", ("f",), 1, HOUR, HOUR)):
            pass
        await submit(store, "f")
        assert (await take_one(store)).lease.worker == "w"

    async def test_a_claim_given_up_gives_back_what_it_got(self, store: Store) -> None:
        """Whenever it is cancelled: before it is served, meanwhile, or when the answer is there."""
        await submit_many(store, 3, "f")
        for turns in range(12):
            claiming = asyncio.create_task(store.claim("gone", ("f",), 3, HOUR))
            for _ in range(turns):
                await asyncio.sleep(0)
            await give_up(store, claiming)

    async def test_a_claim_cancelled_as_its_answer_arrives_gives_back(self, store: Store) -> None:
        """The answer is there, and the caller is gone before he can take it."""
        await submit(store, "f")
        claiming = asyncio.create_task(store.claim("gone", ("f",), 1, HOUR))
        while (await store.counts()).leased == 0:
            pass
        await give_up(store, claiming)

    async def test_a_claim_cancelled_between_its_answer_and_its_waking_gives_back(self, store: Store) -> None:
        """The answer lies there, and another task cancels before the caller takes it up."""
        await submit(store, "f")

        async def cancel_when_answered() -> None:
            await store.release([])  # in the same batch, so answered at the same time
            claiming.cancel()

        for _ in range(20):
            claiming = asyncio.create_task(store.claim("gone", ("f",), 1, HOUR))
            (outcome, _) = await asyncio.gather(claiming, cancel_when_answered(), return_exceptions=True)
            if not isinstance(outcome, BaseException):
                await store.release([held(claim) for claim in outcome])
            await all_given_back(store)

    async def test_a_claim_served_after_its_caller_is_gone_gives_back(self, store: Store) -> None:
        """A job committed in the same moment is not lost with it."""
        for _ in range(30):
            claiming = asyncio.create_task(store.claim("gone", ("f",), 1, HOUR, HOUR))
            await settle(store)
            submitting = asyncio.create_task(submit(store, "f"))
            await asyncio.sleep(0)
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            await submitting
            (claim,) = await store.claim("w", ("f",), 1, HOUR, HOUR)
            await finish(store, claim)


class TestAtOnce:
    """Many claimers."""

    async def test_no_step_goes_to_two_of_eight_claimers(self, store: Store) -> None:
        """Each step is leased exactly once."""
        jobs = await submit_many(store, 200, ("f", "g"))
        claims = await asyncio.gather(*(drain(store, f"w{i}") for i in range(8)))
        got = [(claim.job.id, claim.lease.step) for each in claims for claim in each]
        assert sorted(got) == sorted((job.id, step) for job in jobs for step in (0, 1))

    async def test_no_step_goes_to_two_processes(self, store: Store, another: Callable[[], Store]) -> None:
        """Nor does any stay behind."""
        stores = [store, *(another() for _ in range(3))]
        for each in stores[1:]:
            await each.open()
        jobs = await submit_many(store, 150, "f")
        claims = await asyncio.gather(
            *(drain(each, f"w{i}-{j}") for i, each in enumerate(stores) for j in range(2))
        )
        got = [claim.job.id for each in claims for claim in each]
        assert sorted(got) == sorted(job.id for job in jobs)


async def give_up(store: Store, claiming: asyncio.Task[list[Claim]]) -> None:
    """Cancel a claim, and wait until nothing is leased; what it got all the same is given back."""
    claiming.cancel()
    (outcome,) = await asyncio.gather(claiming, return_exceptions=True)
    if not isinstance(outcome, BaseException):
        await store.release([held(claim) for claim in outcome])
    await all_given_back(store)


async def all_given_back(store: Store) -> None:
    """Wait until nothing is leased."""
    await settle(store)  # by now every claim was served, or never will be
    async with asyncio.timeout(SOON):
        while (await store.counts()).leased:
            pass


async def drain(store: Store, worker: str) -> list[Claim]:
    """Claim until nothing is left."""
    everything: list[Claim] = []
    while claims := await take(store, "f", "g", limit=7, worker=worker):
        everything += claims
    return everything


class TestLimits:
    """A claim that takes only some steps of a function."""

    async def test_of_a_limited_function_no_more_is_claimed(self, store: Store) -> None:
        """The rest of the limit goes to the others, and its further steps stay in the queue."""
        await submit_many(store, 20, "small")
        await submit_many(store, 20, "large")
        claims = await store.claim("w", ("small", "large"), 10, HOUR, limits={"small": 2, "other": 1})
        assert Counter(claim.step.function for claim in claims) == {"small": 2, "large": 8}
        assert (await store.counts()).queued == {"small": 18, "large": 12}

    async def test_a_limited_function_alone(self, store: Store) -> None:
        """The first of its steps are claimed."""
        jobs = await submit_many(store, 5, "f")
        claims = await store.claim("w", ("f",), 10, HOUR, limits={"f": 3})
        assert [claim.job.id for claim in claims] == [job.id for job in jobs[:3]]

    async def test_a_limited_function_of_high_priority(self, store: Store) -> None:
        """It comes first, across its priorities, up to its limit."""
        for priority in (5, 4, 3):
            await submit(store, "small", priority=priority)
        await submit_many(store, 3, "large")
        claims = await store.claim("w", ("large", "small"), 4, HOUR, limits={"small": 2})
        assert [claim.job.priority for claim in claims] == [5, 4, 0, 0]

    async def test_limits_leave_the_shares_of_others_equal(self, store: Store) -> None:
        """What a limited function does not use is shared by all others."""
        for function in ("a", "b", "c"):
            await submit_many(store, 30, function)
        claims = await store.claim("w", ("a", "b", "c"), 21, HOUR, limits={"a": 1})
        assert Counter(claim.step.function for claim in claims) == {"a": 1, "b": 10, "c": 10}

    async def test_what_a_limit_leaves_is_there_for_another_worker(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """Claims that wait in two processes both get something."""
        other = another()
        await other.open()
        first, second = (
            asyncio.create_task(each.claim(name, ("f",), 10, HOUR, SOON, {"f": 2}))
            for name, each in (("1", store), ("2", other))
        )
        await asyncio.sleep(0)
        await submit_many(store, 4, "f")
        assert all(1 <= len(claims) <= 2 for claims in await asyncio.gather(first, second))
