"""The leak check: what must be true of any store at any time, found out by public verbs alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from raincheck.core import lifecycle
from raincheck.core.model import Change, State, Stored
from raincheck.core.stages import current_stage
from raincheck.core.triggers import Cancel, Gathered, Opened, Stopped
from raincheck.store import listing
from raincheck.store.base import Filter, Store


async def assert_no_leaks(store: Store) -> None:
    """Recount everything, then end every job: each place and each lease must be where its job says."""
    jobs = await all_jobs(store)
    await assert_counted(store, jobs)
    await assert_results(store, jobs)
    rounds: defaultdict[int, list[Change]] = defaultdict(list)
    for stored in jobs:
        for number, change in enumerate(endings(store, stored)):
            rounds[number].append(change)
    for changes in rounds.values():  # their guards hold only if each step has its place or its lease
        outcomes = await store.commit(changes)
        assert [c.job for c, outcome in zip(changes, outcomes, strict=True) if outcome is not None] == []
    functions = {step.function for stored in jobs for step in stored.job.steps}
    assert await store.claim("leak check", sorted(functions), 1000, 0.0) == []
    counts = await store.counts()
    assert (counts.queued, counts.leased) == ({}, 0)
    await assert_counted(store, await all_jobs(store))


def endings(store: Store, stored: Stored) -> Iterator[Change]:
    """The changes that end a job: it is cancelled, then each attempt is stopped, or it gathers."""
    if stored.job.state.ended:
        return
    change = lifecycle.advance(stored.job, [Cancel(stored.leases)], store.now())
    yield change
    for lease in stored.leases:
        change = lifecycle.advance(change.job, [Stopped(lifecycle.attempt_of(lease))], store.now())
        yield change
    if not change.job.state.ended:
        if change.job.state is not State.DOING:
            change = lifecycle.advance(change.job, [Opened()], store.now())
            yield change
        yield lifecycle.advance(change.job, [Gathered(b"[]")], store.now())


async def assert_results(store: Store, jobs: list[Stored]) -> None:
    """The large results that the records tell of are there, and no others."""
    steps = [(stored.job.id, i, step) for stored in jobs for i, step in enumerate(stored.job.steps)]
    results = await store.results([(job_id, i) for job_id, i, _ in steps])
    sizes = [None if result is None else len(result) for result in results]
    assert sizes == [step.result_size for _, _, step in steps]


async def assert_counted(store: Store, jobs: list[Stored]) -> None:
    """The counters are what a recount gives."""
    counts = await store.counts()
    assert counts.states == dict.fromkeys(State, 0) | Counter(stored.job.state for stored in jobs)
    assert counts.queued == Counter(function for stored in jobs for function in waiting(stored))
    assert counts.leased == sum(len(stored.leases) for stored in jobs)
    assert counts.shown == dict.fromkeys(State, 0) | Counter(stored.state for stored in jobs)


def waiting(stored: Stored) -> list[str]:
    """The functions of the steps that must have a place in a queue."""
    if stored.job.state.ended:
        return []
    leased = {lease.step for lease in stored.leases}
    stage = current_stage(stored.job)
    return [
        step.function
        for i, step in enumerate(stored.job.steps)
        if step.stage == stage and not step.state.ended and step.gather is None and i not in leased
    ]


async def all_jobs(store: Store) -> list[Stored]:
    """Every job, newest first."""
    return await listed(store, Filter())


async def listed(store: Store, which: Filter, limit: int = 100) -> list[Stored]:
    """All pages of a listing."""
    page = await listing.page(store, which, limit)
    jobs = list(page.jobs)
    while page.cursor is not None:
        page = await listing.page(store, which, limit, page.cursor)
        jobs += page.jobs
    return jobs
