"""What every store answers: find and page."""

from __future__ import annotations

import asyncio
from itertools import combinations
from pathlib import Path

import pytest

from raincheck.core.errors import InvalidInput
from raincheck.core.model import Job, RetryOptions, State
from raincheck.store import listing, make_store
from raincheck.store.base import Filter, Missing, Store
from raincheck.store.listing import Page
from tests.contract.leaks import listed
from tests.contract.steps import (
    HOUR,
    cancelled,
    done,
    failed,
    finish,
    get,
    later,
    removed,
    state_of,
    submit,
    submit_many,
    take,
    take_one,
    write,
)

AGAIN = RetryOptions(retry_limit=2, delay=HOUR)


class TestFind:
    """Jobs by id."""

    async def test_jobs_come_in_the_order_of_their_ids(self, store: Store) -> None:
        """Also one that is asked for twice."""
        a, b = await submit_many(store, 2, "f")
        found = await store.find([b.id, a.id, b.id])
        assert [each.job for each in found if not isinstance(each, Missing)] == [b, a, b]

    async def test_no_ids_find_nothing(self, store: Store) -> None:
        """An empty batch is a batch."""
        assert await store.find([]) == []

    @pytest.mark.parametrize("job_id", ["", "unknown", "'; DROP TABLE job", "%", "\0", "ä" * 1000])
    async def test_an_unknown_id_is_missing_and_never_was(self, store: Store, job_id: str) -> None:
        """Whatever it looks like."""
        job = await submit(store, "f")
        (known, unknown) = await store.find([job.id, job_id])
        assert not isinstance(known, Missing)
        assert unknown == Missing(gone=False)

    async def test_a_job_comes_with_the_leases_in_force(self, store: Store) -> None:
        """One for each step that is being done."""
        job = await submit(store, ("f", "g", "h"))
        claims = [await take_one(store, function) for function in ("g", "f")]
        leases = sorted((claim.lease for claim in claims), key=lambda lease: lease.step)
        assert sorted((await get(store, job.id)).leases, key=lambda lease: lease.step) == leases

    async def test_many_find_at_once(self, store: Store) -> None:
        """Each caller gets his own."""
        jobs = await submit_many(store, 50, "f")
        found = await asyncio.gather(*(get(store, job.id) for job in jobs))
        assert [each.job for each in found] == jobs


class TestPages:
    """Listings, page by page."""

    async def test_jobs_come_newest_first(self, store: Store) -> None:
        """In the reverse of the order they were committed in."""
        jobs = [await submit(store, "f"), *await submit_many(store, 3, "f"), await submit(store, "f")]
        page = await listing.page(store, Filter(), 10)
        assert ([each.job for each in page.jobs], page.cursor) == (jobs[::-1], None)

    async def test_an_empty_store_has_one_empty_page(self, store: Store) -> None:
        """With no cursor."""
        assert await listing.page(store, Filter(), 10) == Page(())

    async def test_pages_follow_each_other_without_gap(self, store: Store) -> None:
        """All jobs are on one page each, whatever its size."""
        jobs = await submit_many(store, 10, "f")
        for limit in (1, 3, 5, 9, 10, 11):
            found = await listed(store, Filter(), limit)
            assert [each.job.id for each in found] == [job.id for job in jobs[::-1]]

    async def test_a_full_last_page_is_the_last(self, store: Store) -> None:
        """There is no cursor to an empty page where the store can know."""
        await submit_many(store, 4, "f")
        first = await listing.page(store, Filter(), 2)
        second = await listing.page(store, Filter(), 2, first.cursor)
        assert (len(second.jobs), second.cursor) == (2, None)

    async def test_a_cursor_holds_while_jobs_come(self, store: Store) -> None:
        """The next page goes on where the last one ended."""
        jobs = await submit_many(store, 4, "f")
        first = await listing.page(store, Filter(), 2)
        await submit_many(store, 3, "f")
        second = await listing.page(store, Filter(), 10, first.cursor)
        assert [each.job.id for each in second.jobs] == [job.id for job in jobs[1::-1]]

    async def test_a_cursor_holds_while_jobs_go(self, store: Store) -> None:
        """Also when the last job shown is removed."""
        jobs = [await done(store) for _ in range(4)]
        first = await listing.page(store, Filter(), 2)
        assert await removed(store, jobs[2], remember=0.0) == [True]
        second = await listing.page(store, Filter(), 10, first.cursor)
        assert [each.job.id for each in second.jobs] == [job.id for job in jobs[1::-1]]

    @pytest.mark.parametrize(
        "cursor",
        [
            "",
            "x",
            "nonsense",
            "n1",
            "1",
            "ä",
            "\0",
            "A" * 5000,
            "bjE=",
            "bjAx",
            "bi0x",
            "bjA",
            "bg",
            "bjFfMA",
        ],
    )
    async def test_a_forged_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """With an error that names it."""
        await submit(store, "f")
        with pytest.raises(InvalidInput) as caught:
            await listing.page(store, Filter(), 10, cursor)
        assert [fault.pointer for fault in caught.value.faults] == ["/cursor"]

    async def test_a_cursor_of_another_kind_of_store_is_refused(self, store: Store, tmp_path: Path) -> None:
        """Each way: it would lead to a wrong page."""
        reference = make_store(f"sqlite:///{tmp_path / 'reference.db'}")
        await reference.open()
        try:
            for each in (store, reference):
                await submit_many(each, 3, "f")
            here = (await listing.page(store, Filter(), 1)).cursor
            there = (await listing.page(reference, Filter(), 1)).cursor
            for each, cursor in ((store, there), (reference, here)):
                if store.kind == reference.kind:
                    assert len((await listing.page(each, Filter(), 1, cursor)).jobs) == 1
                    continue
                with pytest.raises(InvalidInput, match="cursor"):
                    await listing.page(each, Filter(), 1, cursor)
        finally:
            await reference.close()

    async def test_a_cursor_of_another_filter_is_refused(self, store: Store) -> None:
        """Every filter is a listing of its own."""
        await submit_many(store, 3, "f")
        filters = (
            Filter(),
            Filter(states=(State.PENDING,)),
            Filter(name="job"),
            Filter(function="f"),
            Filter(name="job", function="f"),
        )
        for made in filters:
            cursor = (await listing.page(store, made, 1)).cursor
            for used in filters:
                if used == made:
                    assert len((await listing.page(store, used, 1, cursor)).jobs) == 1
                    continue
                with pytest.raises(InvalidInput) as caught:
                    await listing.page(store, used, 1, cursor)
                assert [fault.pointer for fault in caught.value.faults] == ["/cursor"]

    @pytest.mark.parametrize("position", ["", "x", "0", "-1", "9" * 30, "\0", "1e3"])
    async def test_a_forged_position_is_refused(self, store: Store, position: str) -> None:
        """Also in a cursor that is made as the store makes them."""
        await submit_many(store, 2, "f")
        with pytest.raises(InvalidInput):
            await listing.page(store, Filter(), 1, listing.cursor_after(store, Filter(), position))

    async def test_a_page_is_filled_past_candidates_that_do_not_match(self, store: Store) -> None:
        """Being done is not a state at rest: what is leased waits in the same listing as what is not."""
        jobs = await submit_many(store, 300, "f")
        for claim in await take(store, limit=260):
            assert claim.job.id
        waiting = [job.id for job in jobs[260:]][::-1]
        await submit_many(store, 120, "g")
        await take(store, "g", limit=120)
        page = await listing.page(store, Filter(states=(State.PENDING,)), 30)
        assert [each.job.id for each in page.jobs] == waiting[:30]
        rest = await listing.page(store, Filter(states=(State.PENDING,)), 30, page.cursor)
        assert [each.job.id for each in rest.jobs] == waiting[30:]
        assert rest.cursor is None

    async def test_a_refused_cursor_spoils_nothing_else(self, store: Store) -> None:
        """Those who read at the same time get their answers."""
        job = await submit(store, "f")
        found, refused = await asyncio.gather(
            get(store, job.id), listing.page(store, Filter(), 1, "nonsense"), return_exceptions=True
        )
        assert (found, type(refused)) == (await get(store, job.id), InvalidInput)


class TestFilters:
    """Listings of some jobs."""

    async def test_every_state_lists_the_jobs_shown_in_it(self, store: Store) -> None:
        """A listing agrees with what finding the job shows."""
        ids = {state: [job.id] for state, job in (await one_of_each(store)).items()}
        for state in State:
            assert [each.job.id for each in await listed(store, Filter(states=(state,)))] == ids[state]
            assert [await state_of(store, job_id) for job_id in ids[state]] == [state]

    async def test_a_job_is_listed_once_though_several_steps_are_being_done(self, store: Store) -> None:
        """With all its leases."""
        job = await submit(store, ("f", "f", "f"))
        await take(store, limit=2)
        (found,) = await listed(store, Filter(states=(State.DOING,)))
        assert (found.job.id, len(found.leases)) == (job.id, 2)

    async def test_jobs_are_listed_by_name(self, store: Store) -> None:
        """The whole name, letter by letter."""
        named = {name: await submit(store, "f", name=name) for name in ("a", "A", "ab", "a%", "%", "a\0")}
        for name, job in named.items():
            assert [each.job.id for each in await listed(store, Filter(name=name))] == [job.id]

    async def test_jobs_are_listed_by_function(self, store: Store) -> None:
        """Any of their steps, in any stage, each job once."""
        a = await submit(store, "f", ("g", "h"))
        b = await submit(store, "g", "g")
        expected = {"f": [a.id], "g": [b.id, a.id], "h": [a.id], "nobody's": []}
        for function, ids in expected.items():
            assert [each.job.id for each in await listed(store, Filter(function=function))] == ids

    async def test_filters_add_up(self, store: Store) -> None:
        """A job is listed if it matches all that is given."""
        jobs = [
            await submit(store, *functions, name=name)
            for name in ("a", "b")
            for functions in (("f",), ("g",), ("f", "g"))
        ]
        for claim in (await take(store, "f"))[::2]:
            await finish(store, claim)  # the others are left being done
        for which in filters():
            ids = [job.id for job in jobs[::-1] if matches(which, job, await state_of(store, job.id))]
            assert [each.job.id for each in await listed(store, which, 2)] == ids

    async def test_pages_of_a_listing_follow_each_other(self, store: Store) -> None:
        """Though most jobs in between do not match."""
        rare = []
        for _ in range(4):
            await submit_many(store, 30, "f", name="common")
            rare.append(await submit(store, "f", name="common", priority=1))
            await finish(store, await take_one(store, "f"))
        found = await listed(store, Filter(name="common", states=(State.DONE,)), 1)
        assert [each.job.id for each in found] == [job.id for job in rare[::-1]]

    async def test_a_rare_match_among_very_many_is_found_at_last(self, store: Store) -> None:
        """By several calls, each of which looks at a bounded number of jobs."""
        rare = await done(store, name="common")
        await submit_many(store, 2500, "f", name="common")
        page, calls = await listing.page(store, Filter(name="common", states=(State.DONE,)), 10), 1
        while page.cursor is not None:
            assert page.jobs == ()
            page, calls = (
                await listing.page(store, Filter(name="common", states=(State.DONE,)), 10, page.cursor),
                calls + 1,
            )
        assert [each.job.id for each in page.jobs] == [rare.id]
        assert calls <= 30


def filters() -> list[Filter]:
    """Every combination of what may be given."""
    fields = {"states": (State.PENDING,), "name": "a", "function": "g"}
    return [
        Filter(**{name: fields[name] for name in names})  # type: ignore[arg-type]
        for size in range(4)
        for names in combinations(fields, size)
    ]


def matches(which: Filter, job: Job, state: State) -> bool:
    """Whether a job belongs in a listing."""
    return (
        (not which.states or state in which.states)
        and which.name in (None, job.name)
        and (which.function is None or which.function in [step.function for step in job.steps])
    )


async def one_of_each(store: Store) -> dict[State, Job]:
    """A job in every state."""
    jobs = {
        State.DONE: await done(store),
        State.SCHEDULED: await submit(store, "f", scheduled_at=later(store)),
    }
    for state in (State.FAILED, State.RETRYING, State.CANCELLED, State.DOING, State.PENDING):
        jobs[state] = job = await submit(store, "f")
        if state is State.CANCELLED:
            assert await write(store, cancelled(store, await get(store, job.id))) is None
        elif state is not State.PENDING:
            claim = await take_one(store)
            if state is not State.DOING:
                change = failed(store, claim, AGAIN if state is State.RETRYING else RetryOptions())
                assert await write(store, change) is None
                assert change.job.state is state
    return jobs
