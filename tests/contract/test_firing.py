"""Schedules fired on every store, by several at once: one job for each firing, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from raincheck.core.errors import NotFound
from raincheck.core.limits import Limits
from raincheck.core.model import CatchUp, Schedule, Step
from raincheck.engine.schedules.definitions import ScheduleOptions, define
from raincheck.engine.schedules.scheduler import Scheduler
from raincheck.engine.validation import Validator
from raincheck.functions.registry import Functions
from raincheck.store.base import Store
from tests.contract.leaks import all_jobs
from tests.contract.steps import HOUR, finish, prune, take_one

LIMITS = Limits()


def made(store: Store, name: str = "often", **options: Any) -> Schedule:
    """A schedule to be put, of an interval of a minute."""
    asked = ScheduleOptions(**{"every": 60.0, **options})
    return define(name, [Step("f", 0)], asked, Validator(Functions(), LIMITS), store.now())


async def put(store: Store, late: float = 0.0, **options: Any) -> Schedule:
    """A schedule whose next firing was due ``late`` seconds ago."""
    schedule, _ = await Scheduler(store).put(made(store, **options))
    return await back(store, schedule, round(store.now() - late - 0.001, 3))


async def back(store: Store, schedule: Schedule, next_: float | None) -> Schedule:
    """The schedule with another next firing, its interval counted from there."""
    changed = replace(schedule, rev=schedule.rev + 1, next=next_, anchor=(next_ or 0.0) - 60.0)
    assert await store.put_schedule(changed)
    return changed


async def find(store: Store, name: str = "often") -> Schedule:
    """A schedule as it is now."""
    return await Scheduler(store).find(name)


async def fire(store: Store) -> int:
    """Fire what is due."""
    return await Scheduler(store).fire((await store.due(100)).schedules)


async def moments(store: Store) -> list[float | None]:
    """The firings that have jobs, in order."""
    return [stored.job.scheduled_at for stored in await all_jobs(store)][::-1]


class TestOnce:
    """Never twice for one firing."""

    async def test_a_firing_makes_its_job(self, store: Store) -> None:
        """For its moment, and the schedule moves on."""
        schedule = await put(store, expires_in=30.0)
        assert await fire(store) == 1
        (stored,) = await all_jobs(store)
        job = stored.job
        assert (job.name, job.schedule, job.scheduled_at) == ("often", "often", schedule.next)
        assert job.expires_at == job.created_at + 30.0
        after = await find(store)
        assert (after.last, after.last_job) == (schedule.next, job.id)
        assert after.next == (schedule.next or 0.0) + 60.0
        assert await fire(store) == 0

    async def test_of_many_that_fire_one_does(self, store: Store, another: Callable[[], Store]) -> None:
        """Three processes, each more than once, many schedules."""
        stores = [store, another(), another()]
        for other in stores[1:]:
            await other.open()
        for i in range(20):
            await put(store, name=f"s{i}", late=i % 3 * 20.0)
        await asyncio.gather(*(fire(each) for each in stores * 3))
        names = Counter(stored.job.name for stored in await all_jobs(store))
        assert names == {f"s{i}": 1 for i in range(20)}

    async def test_who_dies_between_job_and_schedule_harms_nothing(self, store: Store) -> None:
        """The next one finds the job made, and lets the schedule move on."""
        schedule = await put(store)
        await fire(store)
        await back(store, await find(store), schedule.next)  # as it was, but for its job
        assert await fire(store) == 1
        assert await moments(store) == [schedule.next]

    async def test_a_job_that_was_removed_is_not_made_again(self, store: Store) -> None:
        """Its id is remembered."""
        schedule = await put(store, result_ttl=0.0)
        await fire(store)
        await finish(store, await take_one(store))
        assert await prune(store, 10, HOUR) == 1
        await back(store, await find(store), schedule.next)
        assert await fire(store) == 1
        assert await all_jobs(store) == []

    async def test_a_clock_set_back_fires_nothing_twice(self, store: Store) -> None:
        """The next firing lies ahead, however far."""
        await put(store, late=-5 * HOUR)
        assert await fire(store) == 0

    async def test_a_schedule_made_anew_fires_anew(self, store: Store) -> None:
        """It is another, though its firing may be the same moment."""
        for _ in range(2):
            schedule = await put(store)
            await back(store, schedule, round(store.now()) - 1.0)
            assert await fire(store) == 1
            await Scheduler(store).delete("often")
        assert len(await moments(store)) == 2

    async def test_a_replaced_schedule_does_not_fire_again(self, store: Store) -> None:
        """What has fired has fired, whatever it makes now."""
        schedule = await put(store)
        await fire(store)
        await Scheduler(store).put(made(store, priority=5))
        await back(store, await find(store), schedule.next)
        await fire(store)
        assert await moments(store) == [schedule.next]


class TestMissed:
    """What nobody fired in time: the clock was set forward, or nothing ran."""

    @pytest.mark.parametrize(
        ("catch_up", "count"), [(CatchUp.LATEST, 1), (CatchUp.ALL, 5), (CatchUp.NONE, 0)]
    )
    async def test_the_schedule_says_what_becomes_of_it(
        self, store: Store, catch_up: CatchUp, count: int
    ) -> None:
        """Five minutes late, and at most half a minute late is on time."""
        schedule = await put(store, late=4 * 60.0 + 45.0, catch_up=catch_up, grace=30.0)
        first = schedule.next or 0.0
        assert await fire(store) == 1
        assert await moments(store) == [first + 60.0 * i for i in range(5)][5 - count :]
        assert (await find(store)).next == first + 300.0


class TestPausing:
    """A schedule that is not to fire."""

    async def test_a_paused_schedule_does_not_fire(self, store: Store) -> None:
        """What falls into the pause is left out when it is resumed."""
        await put(store)
        await Scheduler(store).pause("often")
        assert await fire(store) == 0
        resumed = await Scheduler(store).resume("often")
        assert (resumed.next or 0.0) > store.now()
        assert await moments(store) == []

    async def test_a_deleted_schedule_does_not_fire(self, store: Store) -> None:
        """And is not found."""
        await put(store)
        await Scheduler(store).delete("often")
        assert await fire(store) == 0
        with pytest.raises(NotFound):
            await Scheduler(store).delete("often")

    async def test_who_pauses_while_others_fire_is_heard(self, store: Store) -> None:
        """Each change follows on the one before, so none is lost."""
        await put(store)
        await asyncio.gather(
            *(fire(store) for _ in range(5)),
            Scheduler(store).pause("often"),
            *(fire(store) for _ in range(5)),
        )
        assert (await find(store)).paused
        assert len(await moments(store)) <= 1


class TestDeclaring:
    """Schedules that code declares."""

    async def test_a_declaration_is_put_once(self, store: Store) -> None:
        """What was changed since stays, until the declaration changes."""
        first = replace(made(store), declared=b"1")
        for _ in range(2):
            await Scheduler(store).declare(first)
        assert (await find(store)).rev == 1
        await Scheduler(store).put(made(store, priority=5))
        await Scheduler(store).declare(first)
        assert (await find(store)).job.priority == 5
        await Scheduler(store).declare(replace(made(store, priority=7), declared=b"2"))
        assert (await find(store)).job.priority == 7

    async def test_a_pause_and_the_next_firing_outlive_it(self, store: Store) -> None:
        """A declaration says what, not whether."""
        await Scheduler(store).declare(replace(made(store), declared=b"1"))
        before = await find(store)
        await Scheduler(store).declare(replace(made(store, priority=1), declared=b"2"))
        assert (await find(store)).next == before.next
        await Scheduler(store).pause("often")
        await Scheduler(store).declare(replace(made(store, priority=2), declared=b"3"))
        assert (await find(store)).paused

    async def test_many_declare_at_once(self, store: Store, another: Callable[[], Store]) -> None:
        """There is one."""
        other = another()
        await other.open()
        declaration = replace(made(store), declared=b"1")
        await asyncio.gather(*(Scheduler(each).declare(declaration) for each in (store, other) * 5))
        assert [each.name for each in await store.schedules()] == ["often"]


async def test_a_schedule_that_cannot_be_fired_here_holds_up_no_other(store: Store) -> None:
    """Its zone may be known on other machines only; it waits for them."""
    broken = replace(await put(store, name="broken", late=5.0), cron="0 3 * * *", zone="Mars/Base")
    assert await store.put_schedule(replace(broken, rev=broken.rev + 1))
    await put(store, name="sound")
    assert await fire(store) == 1
    assert [stored.job.name for stored in await all_jobs(store)] == ["sound"]
    assert (await find(store, "broken")).next == broken.next
