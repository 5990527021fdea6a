"""What every store tells of changes: listen; and what is derived above it: watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from raincheck.core.clock import monotonic
from raincheck.core.model import Stored
from raincheck.store.base import Missing, Store
from raincheck.store.watches import Watches
from tests.contract.steps import (
    HOUR,
    SOON,
    Ear,
    cancelled,
    done,
    draft,
    extend,
    finish,
    get,
    prune,
    removed,
    settle,
    submission,
    submit,
    submit_many,
    take,
    take_one,
    waiting,
    write,
)


@pytest.fixture
def watches(store: Store) -> Watches:
    """The watches on the store's jobs."""
    return Watches(store)


class TestChanged:
    """Wait for a job to change."""

    async def test_a_job_that_has_changed_already_is_there_at_once(
        self, store: Store, watches: Watches
    ) -> None:
        """Nobody waits for what has happened."""
        job = await submit(store, "f")
        assert await watches.changed(job.id, 0, 0.0) == Stored(job)

    async def test_a_missing_job_is_missing_at_once(self, store: Store, watches: Watches) -> None:
        """There is nothing to wait for."""
        assert await watches.changed("unknown", 0, SOON) == Missing()

    async def test_without_a_change_the_wait_ends_in_time(self, store: Store, watches: Watches) -> None:
        """With nothing."""
        job = await submit(store, "f")
        begun = monotonic()
        assert await watches.changed(job.id, job.rev, 0.1) is None
        assert monotonic() - begun >= 0.1

    async def test_a_commit_ends_the_wait(self, store: Store, watches: Watches) -> None:
        """The answer is the job after it."""
        job = await submit(store, "f", "g")
        claim = await take_one(store)
        async with waiting(store, watches.changed(job.id, job.rev, SOON)) as changing:
            after = await finish(store, claim)
            assert await changing == Stored(after)

    @pytest.mark.usefixtures("woken")
    async def test_a_commit_by_another_process_ends_the_wait(
        self, store: Store, watches: Watches, another: Callable[[], Store]
    ) -> None:
        """Soon after."""
        other = another()
        await other.open()
        job = await submit(store, "f")
        claim = await take_one(other)
        async with waiting(store, watches.changed(job.id, job.rev, HOUR)) as changing:
            after = await finish(other, claim)
            assert await changing == Stored(after)

    async def test_a_change_that_leaves_the_job_running_comes_with_its_leases(
        self, store: Store, watches: Watches
    ) -> None:
        """What is waited for is what finding would show."""
        job = await submit(store, "f")
        claim = await take_one(store)
        async with waiting(store, watches.changed(job.id, job.rev, SOON)) as changing:
            change = cancelled(store, await get(store, job.id))
            assert await write(store, change) is None
            assert await changing == Stored(change.job, (claim.lease,))

    async def test_a_revision_known_already_does_not_end_the_wait(
        self, store: Store, watches: Watches
    ) -> None:
        """Whoever has just ended a job waits for what comes after."""
        for _ in range(30):
            job = await done(store)
            assert await watches.changed(job.id, job.rev, 0.0) is None

    async def test_a_job_forgotten_ends_the_wait(self, store: Store, watches: Watches) -> None:
        """It is missing from now on."""
        job = await done(store)
        async with waiting(store, watches.changed(job.id, job.rev, SOON)) as changing:
            assert await removed(store, job) == [True]
            assert await changing == Missing(gone=True)

    async def test_a_job_pruned_by_another_process_ends_the_wait(
        self, store: Store, watches: Watches, another: Callable[[], Store]
    ) -> None:
        """It is missing from now on, here too."""
        other = another()
        await other.open()
        job = await done(store, result_ttl=0.0)
        async with waiting(store, watches.changed(job.id, job.rev, SOON)) as changing:
            assert await prune(other, 10, SOON) == 1
            assert await changing == Missing(gone=True)

    async def test_other_jobs_do_not_end_the_wait(self, store: Store, watches: Watches) -> None:
        """Nor does progress, nor a longer lease."""
        job = await submit(store, "f")
        claim = await take_one(store)
        async with waiting(store, watches.changed(job.id, job.rev, SOON)) as changing:
            await done(store)
            await extend(store, [claim], SOON)
            await settle(store)
            assert not changing.done()

    async def test_all_who_wait_for_a_job_are_told(self, store: Store, watches: Watches) -> None:
        """However many, and none twice."""
        job = await submit(store, "f")
        claim = await take_one(store)
        calls = [asyncio.create_task(watches.changed(job.id, job.rev, SOON)) for _ in range(100)]
        await settle(store)
        after = await finish(store, claim)
        assert await asyncio.gather(*calls) == [Stored(after)] * 100

    async def test_no_change_is_missed_between_reading_and_waiting(
        self, store: Store, watches: Watches
    ) -> None:
        """A change that comes while the wait begins ends it."""
        for turns in range(20):
            job = await submit(store, "f")
            claim = await take_one(store)
            changing = asyncio.create_task(watches.changed(job.id, job.rev, SOON))
            for _ in range(turns):
                await asyncio.sleep(0)
            after = await finish(store, claim)
            assert await changing == Stored(after)


class TestWatch:
    """See the changes of one job from a moment on."""

    async def test_a_watch_sees_its_job_end(self, store: Store, watches: Watches) -> None:
        """Without reading it again."""
        change = submission(store, draft())
        with watches.watch(change.job.id) as watch:
            assert await write(store, change) is None
            after = await finish(store, await take_one(store))
            while watch.ended is None:
                assert await watch.changed(SOON)
            assert watch.ended == Stored(after)

    async def test_a_watch_sees_what_another_process_does(
        self, store: Store, watches: Watches, another: Callable[[], Store]
    ) -> None:
        """Soon after; then the job is to be read."""
        other = another()
        await other.open()
        job = await submit(store, "f")
        claim = await take_one(other)
        with watches.watch(job.id) as watch:
            while await watch.changed(0.1):
                pass  # what is past
            await finish(other, claim)
            assert await watch.changed(SOON)
            assert (await get(store, job.id)).job.state.ended

    async def test_a_change_before_the_wait_is_not_missed(self, store: Store, watches: Watches) -> None:
        """A watch begins when it is made, not when it is asked."""
        job = await submit(store, "f")
        with watches.watch(job.id) as watch:
            await finish(store, await take_one(store))
            assert await watch.changed(SOON)

    async def test_without_a_change_the_wait_ends_in_time(self, store: Store, watches: Watches) -> None:
        """Other jobs' changes are none."""
        job = await submit(store, "f")
        with watches.watch(job.id) as watch:
            while await watch.changed(0.1):
                pass
            await done(store)
            assert not await watch.changed(0.1)

    async def test_a_job_that_has_not_ended_is_not_shown(self, store: Store, watches: Watches) -> None:
        """It may be leased, so it must be read."""
        job = await submit(store, "f", "g")
        with watches.watch(job.id) as watch:
            await finish(store, await take_one(store))
            assert await watch.changed(SOON)
            assert watch.ended is None


class TestListen:
    """Be told of every change."""

    async def test_a_listener_is_told_of_jobs_as_they_are_written(self, store: Store) -> None:
        """The new and the changed."""
        ear = Ear()
        stop = store.listen(ear)
        job = await submit(store, "f")
        await ear.of(job.id)
        after = await finish(store, await take_one(store))
        await ear.until(lambda: any(jobs.get(job.id) == after for jobs in ear.told))
        stop()

    @pytest.mark.usefixtures("woken")
    async def test_a_listener_is_told_of_changes_by_another_process(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """Soon after."""
        other = another()
        await other.open()
        job = await submit(store, "f")
        ear = Ear()
        stop = store.listen(ear)
        claim = await take_one(other)
        await finish(other, claim)
        await ear.of(job.id)
        stop()

    async def test_a_listener_is_told_that_a_job_is_gone(self, store: Store) -> None:
        """It is to look itself."""
        job = await done(store)
        ear = Ear()
        stop = store.listen(ear)
        assert await removed(store, job) == [True]
        await ear.until(lambda: any(job.id in jobs and jobs[job.id] is None for jobs in ear.told))
        stop()

    async def test_who_no_longer_listens_is_not_told(self, store: Store) -> None:
        """To stop twice is to stop."""
        ear, other = Ear(), Ear()
        stop, stop_other = store.listen(ear), store.listen(other)
        stop()
        stop()
        heard = len(ear.told)
        job = await submit(store, "f")
        await other.of(job.id)
        assert len(ear.told) == heard
        stop_other()

    async def test_a_listener_that_fails_harms_nobody(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The others are told, the store goes on, and the log says what happened."""

        def broken(jobs: object) -> None:
            raise ValueError("a broken listener")

        ear = Ear()
        stops = [store.listen(broken), store.listen(ear)]
        job = await submit(store, "f")
        await ear.of(job.id)
        assert (await get(store, job.id)).job == job
        assert "a broken listener" in caplog.text
        for stop in stops:
            stop()

    async def test_what_conflicts_is_not_told(self, store: Store) -> None:
        """Only what was written is news."""
        jobs = await submit_many(store, 2, "f")
        await settle(store)
        ear = Ear()
        stop = store.listen(ear)
        conflicting = submission(store, jobs[0])
        await write(store, conflicting)
        await finish(store, next(c for c in await take(store) if c.job.id == jobs[1].id))
        await ear.until(lambda: any(jobs[1].id in told for told in ear.told))
        assert not any(jobs[0].id in told for told in ear.told)
        stop()
