"""What every store keeps of schedules: put, remove, all of them, those that are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from raincheck.core.clock import new_id
from raincheck.core.model import CatchUp, Schedule
from raincheck.store.base import Store
from tests.contract.steps import HOUR, draft, later


def schedule(store: Store, name: str = "nightly", **fields: object) -> Schedule:
    """A schedule that was never put, due a while ago."""
    made = Schedule(name, draft("f", id="", schedule=name), id=new_id(), every=60.0, next=store.now() - 1.0)
    return replace(made, **fields)


def after(before: Schedule, **fields: object) -> Schedule:
    """What follows on a schedule."""
    return replace(before, rev=before.rev + 1, **fields)


async def put(store: Store, name: str = "nightly", **fields: object) -> Schedule:
    """Put a new schedule."""
    made = schedule(store, name, **fields)
    assert await store.put_schedule(made)
    return made


class TestPutting:
    """Who may write a schedule."""

    async def test_a_schedule_is_there_as_it_was_put(self, store: Store) -> None:
        """All of it."""
        made = await put(
            store,
            cron="0 3 * * *",
            zone="Europe/Paris",
            every=None,
            catch_up=CatchUp.ALL,
            expires_in=1.5,
            last=store.now() - HOUR,
            last_job=new_id(),
            source="code",
            declared=b"\0\xff",
        )
        assert await store.schedules("nightly") == [made]

    async def test_a_name_is_taken_once(self, store: Store) -> None:
        """Who comes second changes nothing."""
        made = await put(store)
        assert not await store.put_schedule(schedule(store, every=5.0))
        assert await store.schedules() == [made]

    async def test_a_schedule_follows_on_the_one_before(self, store: Store) -> None:
        """Each revision once."""
        made = await put(store)
        second = after(made, paused=True)
        assert await store.put_schedule(second)
        assert not await store.put_schedule(after(made, every=5.0))
        assert not await store.put_schedule(second)
        assert await store.schedules("nightly") == [second]

    async def test_of_many_that_write_one_does(self, store: Store, another: Callable[[], Store]) -> None:
        """In whatever process they are."""
        other = another()
        await other.open()
        made = await put(store)
        written = await asyncio.gather(
            *(each.put_schedule(after(made, every=5.0 + i)) for i in range(5) for each in (store, other))
        )
        assert written.count(True) == 1
        assert [found.rev for found in await other.schedules("nightly")] == [2]

    async def test_a_schedule_that_is_not_there_is_not_changed(self, store: Store) -> None:
        """It does not come back."""
        assert not await store.put_schedule(schedule(store, rev=2))
        assert await store.schedules() == []

    async def test_a_schedule_that_was_made_anew_is_another(self, store: Store) -> None:
        """Who read the one that had its name before changes nothing."""
        before = await put(store)
        assert await store.put_schedule(after(before, removed=True))
        made = await put(store)
        assert not await store.put_schedule(after(before))
        assert await store.schedules("nightly") == [made]


class TestFinding:
    """Which schedules there are."""

    async def test_all_are_found_sorted_by_name(self, store: Store) -> None:
        """By their bytes, whatever they were put in."""
        for name in ("b", "a:1", "Z", "a"):
            await put(store, name)
        assert [found.name for found in await store.schedules()] == ["Z", "a", "a:1", "b"]

    async def test_one_that_is_not_there_is_not_found(self, store: Store) -> None:
        """Another one is not it."""
        await put(store, "nightly")
        assert await store.schedules("night") == []

    async def test_a_removed_schedule_is_gone(self, store: Store) -> None:
        """It is due no more; only who knows it as it is can remove it, and once."""
        made = await put(store, "nightly")
        kept = await put(store, "hourly")
        assert not await store.put_schedule(after(after(made), removed=True))
        assert await store.put_schedule(after(made, removed=True))
        assert not await store.put_schedule(after(made, removed=True))
        assert await store.schedules() == (await store.due(10)).schedules == [kept]

    async def test_schedules_survive_reopening(self, store: Store) -> None:
        """They are stored, not kept in memory."""
        made = await put(store)
        await store.close()
        await store.open()
        assert await store.schedules() == [made]


class TestDue:
    """Which schedules are to be looked at."""

    async def test_the_longest_overdue_come_first(self, store: Store) -> None:
        """No more than asked for."""
        now = store.now()
        for name, age in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
            await put(store, name, next=now - age)
        assert [found.name for found in (await store.due(2)).schedules] == ["b", "c"]

    async def test_what_is_due_later_is_not_due(self, store: Store) -> None:
        """Nor what is paused, or never comes."""
        await put(store, "later", next=later(store))
        await put(store, "paused", paused=True)
        await put(store, "never", next=None)
        assert (await store.due(10)).schedules == []

    async def test_a_schedule_that_moved_on_is_due_later(self, store: Store) -> None:
        """And one that is resumed is due again."""
        made = await put(store)
        moved = after(made, next=later(store))
        assert await store.put_schedule(moved)
        assert (await store.due(10)).schedules == []
        paused = after(moved, next=store.now() - 1.0, paused=True)
        assert await store.put_schedule(paused)
        assert (await store.due(10)).schedules == []
        resumed = after(paused, paused=False)
        assert await store.put_schedule(resumed)
        assert (await store.due(10)).schedules == [resumed]
