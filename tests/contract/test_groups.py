"""Groups on every store: the filter, and runs that reach their end whoever dies on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from raincheck import Limits
from raincheck.core import lifecycle
from raincheck.core.errors import WrongState
from raincheck.core.model import Job, OnFailure, State, Stored
from raincheck.core.options import TemplateOptions
from raincheck.core.triggers import Check, Opened
from raincheck.engine.groups.definitions import Group, GroupJob, checked, from_code
from raincheck.engine.groups.gatherer import Gatherer
from raincheck.engine.groups.runs import member_ids, members_of, open_members, run_of
from raincheck.engine.jobs import Jobs
from raincheck.engine.validation import Validator
from raincheck.functions.registry import Functions, step
from raincheck.store.base import Filter, Missing, Store
from tests.contract.leaks import listed
from tests.contract.steps import (
    failed,
    finish,
    get,
    removed,
    stopped,
    submission,
    submit,
    take,
    take_one,
    write,
)

LIMITS = Limits()
VALIDATOR = Validator(Functions(), LIMITS)


def group(size: int, on_failure: OnFailure = "fail", name: str = "g") -> Group:
    """A group of so many jobs, followed by ``then``."""
    jobs = [GroupJob(f"m{i}", [step("f", i)]) for i in range(size)]
    return checked(name, from_code(jobs, [step("then")], on_failure, TemplateOptions()), VALIDATOR)


def run_draft(size: int, on_failure: OnFailure = "fail", name: str = "g") -> Job:
    """A run of it, not yet submitted."""
    return run_of(group(size, on_failure, name), b"{}", {}, VALIDATOR)


async def begin(jobs: Jobs, size: int, on_failure: OnFailure = "fail", name: str = "g") -> Job:
    """A run with its members there."""
    run = (await jobs.submit(run_draft(size, on_failure, name))).job
    opened = await open_members(jobs, run)
    assert opened is not None
    return opened


async def settled(jobs: Jobs, run: Job, *gatherers: Gatherer) -> Job:
    """The run after all have looked at it, at once, until nothing changes any more."""
    while True:
        before = (await jobs.find(run.id)).job
        await asyncio.gather(*(gatherer.check(run.id) for gatherer in gatherers))
        after = (await jobs.find(run.id)).job
        if after.rev == before.rev:
            return after


def kinds(job: Job) -> list[str]:
    """What happened to a job."""
    return [event.kind for event in job.events]


@pytest.fixture
def jobs(store: Store) -> Jobs:
    """The jobs in the store."""
    return Jobs(store, LIMITS)


@pytest.fixture
def gatherer(jobs: Jobs) -> Gatherer:
    """One that looks when it is told to."""
    return Gatherer(jobs)


class TestFilter:
    """Which jobs are of a group."""

    async def test_a_group_lists_its_runs_and_their_members(self, store: Store, jobs: Jobs) -> None:
        """And nothing else, page by page."""
        run, other = await begin(jobs, 5), await begin(jobs, 2, name="h")
        await submit(store, "f", name="g")
        found = await listed(store, Filter(group="g"), limit=2)
        assert {stored.job.id for stored in found} == {run.id, *member_ids(run.id, 5)}
        assert {stored.job.id for stored in await listed(store, Filter(group="h", name="h"))} == {other.id}
        assert await listed(store, Filter(group="i")) == []

    async def test_it_goes_with_every_other_filter(self, store: Store, jobs: Jobs) -> None:
        """All that is given must match."""
        run = await begin(jobs, 3)
        ids = member_ids(run.id, 3)
        await submit(store, "f", name="m1")
        await finish(store, await take_one(store))
        shown = {
            name: {stored.job.id for stored in await listed(store, which)}
            for name, which in {
                "name": Filter(group="g", name="m1"),
                "function": Filter(group="g", function="f"),
                "pending": Filter(group="g", states=(State.PENDING,)),
                "doing": Filter(group="g", states=(State.DOING,)),
            }.items()
        }
        assert shown["name"] == {ids[1]}
        assert shown["function"] == set(ids)
        assert len(shown["pending"]) == 2
        assert shown["doing"] == {run.id}

    async def test_a_run_is_doing_while_its_members_are_not_done(self, store: Store, jobs: Jobs) -> None:
        """At rest, without a lease: in listings and in counts."""
        run = await begin(jobs, 1)
        assert (await get(store, run.id)).job.state is State.DOING
        claim = await take_one(store)
        doing = {stored.job.id for stored in await listed(store, Filter(states=(State.DOING,)), limit=1)}
        assert doing == {run.id, claim.job.id}
        assert (await store.counts()).states[State.DOING] == 1
        assert await listed(store, Filter(states=(State.PENDING,))) == []

    async def test_what_is_removed_is_listed_no_more(self, store: Store, jobs: Jobs) -> None:
        """By no filter."""
        run = await begin(jobs, 2)
        job = await finish(store, await take_one(store))
        assert await removed(store, job) == [True]
        assert {stored.job.id for stored in await listed(store, Filter(group="g"))} == {
            run.id,
            *member_ids(run.id, 2),
        } - {job.id}


async def nothing(jobs: Jobs, run: Job) -> None:
    """Whoever submitted the run died at once."""


async def some_members(jobs: Jobs, run: Job) -> None:
    """It died when it had created some."""
    changes = [lifecycle.submit(draft, jobs.store.now()) for draft in members_of(run)]
    assert await jobs.store.commit(changes[1:3]) == [None, None]


async def all_members(jobs: Jobs, run: Job) -> None:
    """It died when it had created all, before it could say so."""
    changes = [lifecycle.submit(draft, jobs.store.now()) for draft in members_of(run)]
    assert await jobs.store.commit(changes) == [None] * len(changes)


async def opened(jobs: Jobs, run: Job) -> None:
    """It died thereafter."""
    assert await open_members(jobs, run) is not None


POINTS = (nothing, some_members, all_members, opened)


class TestCrash:
    """Whoever dies between two writes, others go on from there."""

    @pytest.mark.parametrize("point", POINTS)
    @pytest.mark.parametrize("lookers", [1, 3])
    async def test_the_follow_up_is_there_exactly_once(
        self, store: Store, jobs: Jobs, point: Callable[[Jobs, Job], Any], lookers: int
    ) -> None:
        """With all results, in order; however many look at the run."""
        run = (await jobs.submit(run_draft(4))).job
        await point(jobs, run)
        gatherers = [Gatherer(jobs) for _ in range(lookers)]
        run = await settled(jobs, run, *gatherers)
        assert (run.state, kinds(run)) == (State.DOING, ["submitted", "opened"])
        for _ in range(4):
            assert (await settled(jobs, run, Gatherer(jobs))).state is State.DOING
            claim = await take_one(store)
            await finish(store, claim, claim.step.args[1:-1])
        run = await settled(jobs, run, *gatherers, Gatherer(jobs))
        assert kinds(run) == ["submitted", "opened", "gathered"]
        claim = await take_one(store, "then")
        assert lifecycle.previous_results(claim.job, 1) == b"[0,1,2,3]"
        assert await take(store, "f", "then") == []
        assert (await finish(store, claim)).state is State.DONE

    async def test_the_alarm_brings_somebody_to_look(self, store: Store, jobs: Jobs) -> None:
        """A run whose members ended unheard is gathered when its alarm has rung."""
        run = await begin(jobs, 1)
        await finish(store, await take_one(store))
        async with Gatherer(jobs):
            change = lifecycle.advance(run, [Check()], store.now())
            assert await write(store, change) is None
            claim = await store.claim("w", ["then"], 1, 60.0, 10.0)
        assert [each.job.id for each in claim] == [run.id]

    async def test_members_that_end_are_heard_of(self, store: Store, jobs: Jobs) -> None:
        """Nobody has to wait for the alarm."""
        async with Gatherer(jobs):
            run = await begin(jobs, 3)
            for claim in await take(store):
                await finish(store, claim)
            (claim,) = await store.claim("w", ["then"], 1, 60.0, 10.0)
        assert claim.job.id == run.id

    async def test_a_run_that_was_opened_is_not_opened_again(self, store: Store, jobs: Jobs) -> None:
        """Who comes late creates nothing, also if a member is gone already."""
        run = (await jobs.submit(run_draft(2))).job
        assert await open_members(jobs, run) is not None
        claim = await take_one(store)
        job = await finish(store, claim)
        assert await removed(store, job) == [True]
        assert await open_members(jobs, run) is None
        (found,) = await store.find([job.id])
        assert found == Missing(gone=True)


class TestEnds:
    """Runs whose members do not all end well."""

    async def test_a_retry_reopens_only_what_has_no_result(
        self, store: Store, jobs: Jobs, gatherer: Gatherer
    ) -> None:
        """Also if who reopens dies halfway; what failed again since is not reopened twice."""
        run = await begin(jobs, 3)
        for claim in await take(store):
            good = claim.step.args == b"[1]"
            assert (
                await write(store, failed(store, claim)) is None if not good else await finish(store, claim)
            )
        assert (await settled(jobs, run, gatherer)).state is State.FAILED
        stored = await jobs.retry(run.id)
        first, _, third = member_ids(run.id, 3)
        await jobs.retry(first)  # as one that dies halfway
        claim = await take_one(store)
        assert await write(store, failed(store, claim)) is None
        assert (await settled(jobs, stored.job, gatherer)).state is State.DOING
        assert ((await get(store, first)).job.run, (await get(store, third)).job.run) == (2, 2)
        await finish(store, await take_one(store), b"3")
        run = await settled(jobs, run, gatherer)
        assert (run.state, run.error and run.error.detail) == (
            State.FAILED,
            "1 of 3 jobs failed, were cancelled or removed",
        )

    async def test_with_continue_the_follow_up_learns_who_failed(
        self, store: Store, jobs: Jobs, gatherer: Gatherer
    ) -> None:
        """Null in its place, and its position beside the results."""
        run = await begin(jobs, 3, "continue")
        for claim in await take(store):
            if claim.step.args == b"[1]":
                assert await write(store, failed(store, claim)) is None
            else:
                await finish(store, claim, claim.step.args[1:-1])
        await settled(jobs, run, gatherer)
        claim = await take_one(store, "then")
        assert lifecycle.previous_results(claim.job, 1) == b"[0,null,2]"
        assert claim.job.steps[0].gather is not None
        assert claim.job.steps[0].gather.failed == (1,)

    @pytest.mark.parametrize("point", POINTS)
    async def test_a_cancelled_run_leaves_no_member_to_be_done(
        self, store: Store, jobs: Jobs, gatherer: Gatherer, point: Callable[[Jobs, Job], Any]
    ) -> None:
        """Also if whoever submitted it died before all were there, or goes on creating them."""
        run = (await jobs.submit(run_draft(4))).job
        await point(jobs, run)
        await jobs.cancel(run.id)
        await some_members(jobs, run) if point is nothing else None
        run = await settled(jobs, run, gatherer, Gatherer(jobs))
        assert run.state is State.CANCELLED
        members = await store.find(member_ids(run.id, 4))
        assert {found.job.state for found in members if isinstance(found, Stored)} == {State.CANCELLED}
        assert await take(store, "f", "then") == []

    async def test_a_run_can_be_cancelled_again(self, store: Store, jobs: Jobs) -> None:
        """After a retry, by a process that cancelled it before and did not see its end."""
        run, one, other = await begin(jobs, 2), Gatherer(jobs), Gatherer(jobs)
        claim = await take_one(store)
        await jobs.cancel(run.id)
        assert await one.check(run.id) is False
        stored = await get(store, claim.job.id)
        assert await write(store, stopped(store, stored.job, claim.lease)) is None
        assert (await settled(jobs, run, other)).state is State.CANCELLED
        await jobs.retry(run.id)
        assert (await settled(jobs, run, other)).state is State.DOING
        await jobs.cancel(run.id)
        assert (await settled(jobs, run, one)).state is State.CANCELLED

    async def test_results_over_the_limit_fail_the_run(self, store: Store) -> None:
        """With a problem that says so; a retry gathers again."""
        jobs = Jobs(store, Limits(result=20))
        run = await begin(jobs, 3)
        for claim in await take(store):
            await finish(store, claim, b'"123456"')
        run = await settled(jobs, run, Gatherer(jobs))
        assert (run.state, run.error and run.error.name) == (State.FAILED, "result-too-large")

    async def test_a_member_reopened_meanwhile_is_waited_for(
        self, store: Store, jobs: Jobs, gatherer: Gatherer
    ) -> None:
        """What had ended when it was looked at may not be so when all have."""
        run = await begin(jobs, 2)
        claims = await take(store)
        assert await write(store, failed(store, claims[0])) is None
        await settled(jobs, run, gatherer)
        await jobs.retry(claims[0].job.id)
        await finish(store, claims[1])
        assert (await settled(jobs, run, gatherer)).state is State.DOING
        await finish(store, await take_one(store))
        assert (await settled(jobs, run, gatherer)).state is State.PENDING

    async def test_an_ended_run_is_not_cancelled(self, store: Store, jobs: Jobs, gatherer: Gatherer) -> None:
        """As any ended job."""
        run = await begin(jobs, 1, "continue")
        await finish(store, await take_one(store))
        await settled(jobs, run, gatherer)
        await finish(store, await take_one(store, "then"))
        with pytest.raises(WrongState):
            await jobs.cancel(run.id)


class Counting:
    """A store that counts how many jobs are read from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read = 0

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        """Read jobs."""
        self.read += len(job_ids)
        return await self._store.find(job_ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("order", ["first to last", "last to first", "shuffled"])
async def test_the_cost_of_a_run_is_linear(store: Store, order: str) -> None:
    """Looked at after every twenty ends, each member is read a few times, in whatever order they end."""
    counting: Any = Counting(store)
    jobs, size = Jobs(counting, LIMITS), 600
    run = await begin(jobs, size)
    gatherer = Gatherer(jobs)
    claims = sorted(await take(store, limit=size), key=lambda claim: claim.job.id)
    if order == "last to first":
        claims.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(claims)
    counting.read = 0
    for at in range(0, size, 20):
        for claim in claims[at : at + 20]:
            await finish(store, claim)
        await gatherer.check(run.id)
    assert (await get(store, run.id)).job.state is State.PENDING
    assert counting.read <= 4 * size


async def test_an_opened_run_is_small(jobs: Jobs) -> None:
    """What is only needed to create its members is not carried on: it is written often."""
    run = await begin(jobs, 100)
    assert len(repr(run)) < 1500
    assert run.steps[0].gather is not None
    assert (run.steps[0].gather.size, run.steps[0].gather.members) == (100, ())


async def test_an_opening_that_comes_twice_conflicts(store: Store, jobs: Jobs) -> None:
    """Whoever is second writes nothing."""
    run = (await submit_run(store)).job
    change = lifecycle.advance(run, [Opened()], store.now())
    assert await write(store, change) is None
    assert await write(store, replace(change)) is not None


async def submit_run(store: Store) -> Stored:
    """A run without members yet."""
    change = submission(store, run_draft(1))
    assert await write(store, change) is None
    return await get(store, change.job.id)
