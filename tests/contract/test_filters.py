"""Filters of listings: several states, times of creation, schedules, errors; and the order."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from raincheck.core import lifecycle
from raincheck.core.clock import derived_id, new_id
from raincheck.core.errors import InvalidInput
from raincheck.core.model import Job, Problem, State
from raincheck.core.triggers import Failed
from raincheck.store import listing
from raincheck.store.base import Filter, Store
from tests.contract.leaks import listed
from tests.contract.steps import HOUR, after, done, draft, get, submit, submit_many, take, write
from tests.contract.test_reading import one_of_each

DAY = 24 * HOUR


async def submit_at(store: Store, moment: float, *functions: str, **fields: Any) -> Job:
    """A job that was created at a time."""
    job_id = derived_id(moment, new_id().encode())
    change = lifecycle.submit(draft(*functions, id=job_id, **fields), moment)
    assert await write(store, change) is None
    return change.job


async def fail(store: Store, job: Job, error: Problem) -> None:
    """Let the only step of a job fail."""
    (claim,) = await take(store, job.steps[0].function, limit=1)
    assert claim.job.id == job.id
    assert await write(store, after(store, job, Failed(lifecycle.attempt_of(claim.lease), error))) is None


async def ids(store: Store, which: Filter, limit: int = 100) -> list[str]:
    """The ids of all jobs of a listing."""
    return [stored.job.id for stored in await listed(store, which, limit)]


async def test_several_states_are_one_listing(store: Store) -> None:
    """It has the jobs of each, newest first, whichever states are combined."""
    by_state = await one_of_each(store)
    everything = await ids(store, Filter())
    for states in [*product(State, State), (State.DONE, State.FAILED, State.CANCELLED), tuple(State)]:
        wanted = {by_state[state].id for state in states}
        for limit in (1, 100):
            found = await ids(store, Filter(states=tuple(dict.fromkeys(states))), limit)
            assert found == [job_id for job_id in everything if job_id in wanted]


async def test_several_states_add_to_the_other_filters(store: Store) -> None:
    """Also where most of the jobs of a state do not match."""
    await submit_many(store, 20, "f", name="other")
    job = await submit(store, "f", name="mine")
    states = (State.PENDING, State.DOING, State.FAILED)
    for which in (Filter(states=states, name="mine"), Filter(states=states, name="mine", function="f")):
        assert await ids(store, which) == [job.id]
    assert len(await take(store, limit=100)) == 21
    assert await ids(store, Filter(states=states, name="mine")) == [job.id]
    assert await ids(store, Filter(states=(State.PENDING, State.FAILED), name="mine")) == []


async def test_the_oldest_can_come_first(store: Store) -> None:
    """Page by page, with every filter, in exactly the reverse order."""
    await one_of_each(store)
    await submit_many(store, 7, "f", "g", name="many")
    await submit_many(store, 3, "g", name="job")
    for fields in (
        {},
        {"states": (State.PENDING,)},
        {"states": (State.PENDING, State.DOING, State.DONE)},
        {"states": (State.DOING,)},
        {"name": "many"},
        {"function": "g", "name": "many"},
        {"function": "g", "states": (State.PENDING, State.RETRYING)},
    ):
        newest = await ids(store, Filter(**fields))
        for limit in (1, 4, 100):
            oldest = await ids(store, Filter(oldest_first=True, **fields), limit)
            assert oldest == newest[::-1]
        assert newest


async def test_jobs_are_listed_by_the_time_of_their_creation(store: Store) -> None:
    """From ``since`` on, and before ``until``."""
    now = store.now()
    times = [now - 3 * DAY, now - 2 * DAY, now - 2 * DAY + 60, now - HOUR, now - 60]
    jobs = [await submit_at(store, moment, "f", name="n") for moment in times]
    others = [await submit_at(store, now - 90, "f", name="other")]
    for since, until in product([None, *times, now], [None, *times, now]):
        wanted = [
            job.id
            for job in [*others, *jobs]
            if (since is None or job.created_at >= since) and (until is None or job.created_at < until)
        ]
        for fields in ({}, {"name": "n"}, {"states": (State.PENDING, State.FAILED)}, {"function": "f"}):
            expected = set(wanted) - ({others[0].id} if "name" in fields else set())
            for oldest_first, limit in product((False, True), (1, 100)):
                which = Filter(since=since, until=until, oldest_first=oldest_first, **fields)
                found = await ids(store, which, limit)
                assert (set(found), len(found)) == (expected, len(expected))


async def test_old_jobs_are_not_read_for_the_newest_hour(store: Store) -> None:
    """One call finds its end, however many older jobs there are; likewise for the oldest."""
    now = store.now()
    old = [
        lifecycle.submit(draft("f", id=derived_id(now - 9 * DAY + i, b""), name="n"), now - 9 * DAY + i)
        for i in range(2500)
    ]
    assert await store.commit(old) == [None] * 2500
    new = await submit(store, "f", name="n")
    for fields in ({}, {"name": "n"}, {"states": (State.PENDING,)}):
        page = await listing.page(store, Filter(since=now - HOUR, **fields), 10)
        assert ([stored.job.id for stored in page.jobs], page.cursor) == ([new.id], None)
        which = Filter(until=now - 9 * DAY + 2, oldest_first=True, **fields)
        page = await listing.page(store, which, 10)
        assert [stored.job.id for stored in page.jobs] == [change.job.id for change in old[:2]]
    change = lifecycle.submit(draft("rare"), now)
    assert await store.commit([change]) == [None]


async def test_jobs_are_listed_by_their_schedule(store: Store) -> None:
    """Whatever their names are."""
    mine = [await submit(store, "f", schedule="nightly", name=name) for name in ("nightly", "a group")]
    await submit(store, "f", name="nightly")
    assert await ids(store, Filter(schedule="nightly")) == [mine[1].id, mine[0].id]
    assert await ids(store, Filter(schedule="nightly", name="nightly")) == [mine[0].id]


async def test_jobs_are_listed_by_their_error(store: Store) -> None:
    """By its type, with or without the part that all types share, or by its exception."""
    errors = {
        "timeout": Problem(type="timeout", title="t", exception="TimeoutError"),
        "ValueError": Problem(type="function-failed", title="t", exception="ValueError"),
        "httpx.ReadTimeout": Problem(type="function-failed", title="t", exception="httpx.ReadTimeout"),
    }
    jobs = {}
    for name, error in errors.items():
        jobs[name] = (await submit(store, f"fails by {name}")).id
        await fail(store, (await get(store, jobs[name])).job, error)
    await done(store)
    for name in ("timeout", errors["timeout"].type, "TimeoutError"):
        assert await ids(store, Filter(error=name)) == [jobs["timeout"]]
    for name in ("httpx.ReadTimeout", "ReadTimeout"):
        assert await ids(store, Filter(error=name, states=(State.FAILED,))) == [jobs["httpx.ReadTimeout"]]
    assert await ids(store, Filter(error="function-failed")) == [
        jobs["httpx.ReadTimeout"],
        jobs["ValueError"],
    ]
    assert await ids(store, Filter(error="Timeout")) == []


async def test_a_cursor_belongs_to_all_of_its_filter(store: Store) -> None:
    """Also to the times, the order and the time that durations are counted from."""
    now = store.now()
    await submit_many(store, 3, "f", schedule="s")
    filters = (
        Filter(),
        Filter(states=(State.PENDING, State.DONE)),
        Filter(schedule="s"),
        Filter(since=now - 5),
        Filter(since=now - 6),
        Filter(until=now + DAY),
        Filter(oldest_first=True),
        Filter(since=now - 5, counted_from=now),
    )
    for made, used in product(filters, filters):
        cursor = (await listing.page(store, made, 1)).cursor
        assert cursor is not None
        assert listing.counted_from(cursor) == made.counted_from
        if made == used:
            assert len((await listing.page(store, used, 1, cursor)).jobs) == 1
        else:
            with pytest.raises(InvalidInput, match="cursor"):
                await listing.page(store, used, 1, cursor)


async def test_a_leased_job_is_listed_once(store: Store) -> None:
    """It is found by its state at rest and by its lease, in a listing of both."""
    jobs = await submit_many(store, 30, "f")
    for _ in range(10):
        await take(store, "f", limit=3)
        found = await ids(store, Filter(states=(State.PENDING, State.DOING)), 7)
        assert found == [job.id for job in jobs[::-1]]
