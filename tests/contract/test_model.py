"""Random lives of random jobs: a store does what a dictionary would."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.errors import IllegalTransition
from raincheck.core.journal import has_journal
from raincheck.core.model import (
    Change,
    Claim,
    Entry,
    Job,
    Key,
    Lease,
    Problem,
    QueueEntry,
    RetryOptions,
    State,
    Stored,
)
from raincheck.core.stages import INLINE_RESULT
from raincheck.core.triggers import Cancel, Check, Failed, Lost, Retry, Stopped, Succeeded, Trigger
from raincheck.store import Store, listing, make_store
from raincheck.store.base import Conflict, Duplicate, Filter, Held, Missing, Outcome
from raincheck.store.listing import Page
from tests.contract.leaks import assert_counted, assert_no_leaks
from tests.contract.leftovers import assert_nothing_left
from tests.contract.steps import HOUR, draft, info, prune, removed

FUNCTIONS = ("f", "g", "h")
AGAIN = RetryOptions(retry_limit=2, delay=0.0, lost_limit=1)

functions = st.sampled_from(FUNCTIONS)
stages = st.lists(functions | st.tuples(functions, functions), min_size=1, max_size=3)
lease_times = st.sampled_from([0.0, HOUR])

Spot = tuple[str, int]

LARGE = b'"' + b"x" * INLINE_RESULT + b'"'


class Model:
    """What a store keeps, kept in dictionaries; its guards, written out."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.check_times: dict[str, float | None] = {}
        self.queue: dict[Spot, QueueEntry] = {}
        self.leases: dict[Spot, tuple[Lease, QueueEntry]] = {}
        self.keys: dict[str, Duplicate] = {}
        self.results: dict[Spot, bytes] = {}
        self.journals: dict[str, list[Entry]] = {}
        self.gone: set[str] = set()

    def apply(self, change: Change, now: float) -> Outcome:
        """Write a change, or say why not."""
        job = change.job
        if change.key and change.key.name in self.keys:
            return self.keys[change.key.name]
        if not self._holds(change, now):
            return Conflict()
        for step in (*(r.step for r in change.release), *(p.step for p in change.drop)):
            self.leases.pop((job.id, step), None)
        for place in (*change.take, *change.drop):
            self.queue.pop((job.id, place.step), None)
        self.queue |= {(job.id, place.step): place for place in change.put}
        self.jobs[job.id], self.check_times[job.id] = job, change.check_at
        self.results |= {(job.id, step): value for step, value in change.results}
        for entry in change.journal:
            self.append(self.journals.setdefault(job.id, []), entry)
        if change.key:
            self.keys[change.key.name] = Duplicate(job.id, change.key.fingerprint)
        return None

    def append(self, journal: list[Entry], entry: Entry) -> None:
        """Append an entry; of its kind and step, the first and the latest are kept."""
        number = journal[-1].number + 1 if journal else 1
        journal.append(replace(entry, keep=0, number=number))
        series = [each for each in journal if (each.kind, each.step) == (entry.kind, entry.step)]
        if len(series) > entry.keep + 1:
            journal.remove(series[1])

    def _holds(self, change: Change, now: float) -> bool:
        known = self.jobs.get(change.job.id)
        return (
            (known.rev if known else 0) == change.job.rev - 1
            and change.job.id not in self.gone
            and all(self.queue.get((change.job.id, place.step)) == place for place in change.take)
            and all(
                (lease := self.lease(change.job.id, guard.step)) is not None
                and lease.token == guard.token
                and (lease.until <= now or not guard.expired)
                for guard in change.release + change.hold
            )
        )

    def lease(self, job_id: str, step: int) -> Lease | None:
        """The lease on a step."""
        return self.leases[job_id, step][0] if (job_id, step) in self.leases else None

    def held(self, claim: Claim) -> bool:
        """Whether the lease of a claim is in force."""
        lease = self.lease(claim.job.id, claim.lease.step)
        return lease is not None and lease.token == claim.lease.token

    def stored(self, job_id: str) -> Stored | Missing:
        """What finding a job gives."""
        if job_id not in self.jobs:
            return Missing(gone=job_id in self.gone)
        found = [lease for (owner, _), (lease, _) in sorted(self.leases.items()) if owner == job_id]
        return Stored(self.jobs[job_id], tuple(found))

    def ready(self, wanted: list[str], now: float, limits: dict[str, int]) -> list[QueueEntry]:
        """The places that may be claimed: of a function with a limit, so many of the first."""
        ready = (place for place in self.queue.values() if place.function in wanted and place.due <= now)
        found: list[QueueEntry] = []
        for place in sorted(ready, key=lambda place: (-place.priority, place.due)):
            count = sum(other.function == place.function for other in found)
            if count < limits.get(place.function, count + 1):
                found.append(place)
        return found

    def remove(self, job_id: str) -> None:
        """Prune or forget a job."""
        del self.jobs[job_id], self.check_times[job_id]
        self.results = {spot: value for spot, value in self.results.items() if spot[0] != job_id}
        self.journals.pop(job_id, None)
        self.gone.add(job_id)


class Lives(RuleBasedStateMachine):
    """Jobs are submitted, claimed, finished, lost, cancelled and retried, also by those who are late."""

    ids = Bundle("ids")
    claims = Bundle("claims")
    views = Bundle("views")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.tokens: set[int] = set()
        self.url = url
        self.store: Store = make_store(url)
        self.run(self.store.open())

    def run(self, call: Any) -> Any:
        """What a verb answers."""
        return self.runner.run(call)

    def commit(self, *changes: Change) -> list[Outcome]:
        """Commit to both; they agree. Journals keep few entries, so that some are removed."""
        changes = tuple(
            replace(change, journal=tuple(replace(entry, keep=1) for entry in change.journal))
            for change in changes
        )
        outcomes: list[Outcome] = self.run(self.store.commit(changes))
        now = self.store.now()
        assert outcomes == [self.model.apply(change, now) for change in changes]
        return outcomes

    def follow(self, job: Job | None, trigger: Trigger) -> None:
        """Commit what follows from a trigger, if anything does."""
        if job is not None:
            with suppress(IllegalTransition):
                self.commit(lifecycle.advance(job, [trigger], self.store.now()))

    @rule(
        target=ids,
        stages=stages,
        priority=st.integers(-1, 1),
        delay=st.sampled_from([None, None, None, HOUR]),
        deadline=st.sampled_from([None, None, 0.0, HOUR]),
        ttl=st.sampled_from([0.0, HOUR]),
        key=st.sampled_from([None, None, "k1", "k2"]),
    )
    def submit(
        self,
        stages: list[str | tuple[str, ...]],
        priority: int,
        delay: float | None,
        deadline: float | None,
        ttl: float,
        key: str | None,
    ) -> str:
        """A new job."""
        now = self.store.now()
        job = draft(*stages, priority=priority, result_ttl=ttl)
        job = replace(
            job,
            scheduled_at=None if delay is None else now + delay,
            expires_at=None if deadline is None else now + deadline,
        )
        kept = None if key is None else Key(key, job.id.encode(), now + HOUR)
        self.commit(lifecycle.submit(job, now, kept))
        return job.id

    @rule(job_id=ids)
    def submit_again(self, job_id: str) -> None:
        """The id is taken, also if the job was removed."""
        self.commit(lifecycle.submit(draft("f", id=job_id), self.store.now()))

    @rule(
        target=claims,
        wanted=st.lists(functions, min_size=1, max_size=3),
        limit=st.integers(1, 4),
        lease=lease_times,
        worker=st.sampled_from(["w1", "w2"]),
        limits=st.dictionaries(functions, st.integers(1, 2), max_size=2),
    )
    def claim(
        self, wanted: list[str], limit: int, lease: float, worker: str, limits: dict[str, int]
    ) -> MultipleResults[Claim]:
        """Ready steps go from the queue into leases, the right ones first."""
        before = self.store.now()
        claims: list[Claim] = self.run(self.store.claim(worker, wanted, limit, lease, 0.0, limits))
        ready = self.model.ready(wanted, before, limits)
        assert len(claims) == min(limit, len(ready))
        priorities = sorted((place.priority for place in ready), reverse=True)
        assert sorted((claim.job.priority for claim in claims), reverse=True) == priorities[: len(claims)]
        for function, count in Counter(claim.step.function for claim in claims).items():
            places = sorted((-p.priority, p.due) for p in ready if p.function == function)
            got = [self.model.queue[c.job.id, c.lease.step] for c in claims if c.step.function == function]
            assert [(-p.priority, p.due) for p in got] == places[:count]
        for claim in claims:
            spot = (claim.job.id, claim.lease.step)
            assert claim.lease.token not in self.tokens
            assert claim.job == self.model.jobs[claim.job.id]
            self.tokens.add(claim.lease.token)
            self.model.leases[spot] = (claim.lease, self.model.queue.pop(spot))
        return multiple(*claims)

    @rule(
        claim=claims, result=st.sampled_from([b"1", b"null", LARGE]), data=st.sampled_from([None, b'{"a":1}'])
    )
    def succeed(self, claim: Claim, result: bytes, data: bytes | None) -> None:
        """An attempt succeeds, perhaps too late, decided with what its worker knows."""
        self.follow(claim.job, Succeeded(lifecycle.attempt_of(claim.lease), result, data))

    @rule(claim=claims)
    def succeed_anew(self, claim: Claim) -> None:
        """An attempt succeeds, perhaps too late, decided with the job as it is."""
        job = self.model.jobs.get(claim.job.id)
        self.follow(job, Succeeded(lifecycle.attempt_of(claim.lease), b"2"))

    @rule(claim=claims, options=st.sampled_from([AGAIN, RetryOptions()]))
    def fail(self, claim: Claim, options: RetryOptions) -> None:
        """An attempt fails, perhaps too late."""
        job = self.model.jobs.get(claim.job.id)
        self.follow(job, Failed(lifecycle.attempt_of(claim.lease), Problem(title="x"), options=options))

    @rule(claim=claims)
    def stop(self, claim: Claim) -> None:
        """An attempt was stopped."""
        self.follow(self.model.jobs.get(claim.job.id), Stopped(lifecycle.attempt_of(claim.lease)))

    @rule(claim=claims)
    def lose(self, claim: Claim) -> None:
        """Somebody thinks that a lease has run out, perhaps wrongly."""
        self.follow(self.model.jobs.get(claim.job.id), Lost(lifecycle.attempt_of(claim.lease), AGAIN))

    @rule()
    def sweep(self) -> None:
        """All leases that have run out are found, and dealt with in one batch."""
        lost: list[Claim] = self.run(self.store.due(100)).leases
        now = self.store.now()
        expected = {lease.token for lease, _ in self.model.leases.values() if lease.until <= now}
        assert {claim.lease.token for claim in lost} == expected
        changes = []
        for claim in lost:
            with suppress(IllegalTransition):
                trigger = Lost(lifecycle.attempt_of(claim.lease), AGAIN)
                changes.append(lifecycle.advance(claim.job, [trigger], now))
        first = {change.job.id: change for change in reversed(changes)}
        assert self.commit(*first.values()) == [None] * len(first)

    @rule(claim=claims, lease=lease_times)
    def extend(self, claim: Claim, lease: float) -> None:
        """A worker extends, perhaps too late."""
        (rev,) = self.store.heartbeat(info(state="stopped"), [as_held(claim)], lease)
        job = self.model.jobs.get(claim.job.id)
        assert rev == (job.rev if job is not None and self.model.held(claim) else None)
        if rev is not None:
            self.refresh(claim)

    @rule(claim=claims)
    def report(self, claim: Claim) -> None:
        """A worker tells how far it has come, perhaps too late."""
        assert self.run(self.store.report(as_held(claim), b"0.5")) is self.model.held(claim)
        if self.model.held(claim):
            self.refresh(claim)

    def refresh(self, claim: Claim) -> None:
        """Take over a lease whose times or progress have changed."""
        (found,) = self.run(self.store.find([claim.job.id]))
        (lease,) = (each for each in found.leases if each.step == claim.lease.step)
        old, place = self.model.leases[claim.job.id, lease.step]
        assert (lease.token, lease.worker, lease.since) == (old.token, old.worker, old.since)
        self.model.leases[claim.job.id, lease.step] = (lease, place)

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        """A worker gives a step back, perhaps too late."""
        held = self.model.held(claim)
        self.run(self.store.release([as_held(claim)]))
        if held:
            spot = (claim.job.id, claim.lease.step)
            self.model.queue[spot] = self.model.leases.pop(spot)[1]

    @rule(target=views, job_id=ids)
    def look(self, job_id: str) -> Stored | Missing:
        """Somebody reads a job, to act later."""
        return self.model.stored(job_id)

    @rule(view=views)
    def cancel(self, view: Stored | Missing) -> None:
        """Somebody cancels what he has seen, perhaps too late."""
        if isinstance(view, Stored):
            self.follow(view.job, Cancel(view.leases))

    @rule(job_id=ids)
    def cancel_now(self, job_id: str) -> None:
        """Somebody cancels a job as it is."""
        self.cancel(self.model.stored(job_id))

    @rule(view=views)
    def retry(self, view: Stored | Missing) -> None:
        """Somebody retries what he has seen, perhaps too late."""
        if isinstance(view, Stored):
            self.follow(view.job, Retry())

    @rule()
    def wake(self) -> None:
        """All check_times that have rung are found."""
        alarmed: list[Stored] = self.run(self.store.due(100)).jobs
        now = self.store.now()
        expected = {
            job_id
            for job_id, at in self.model.check_times.items()
            if at is not None and at <= now and not self.model.jobs[job_id].state.ended
        }
        assert {stored.job.id for stored in alarmed} == expected
        for stored in alarmed:
            assert stored == self.model.stored(stored.job.id)
            self.follow(stored.job, Check(stored.leases))

    @rule()
    def prune(self) -> None:
        """Ended jobs whose time is over go, and no others."""
        now = self.store.now()
        due = [
            job_id
            for job_id, job in self.model.jobs.items()
            if job.state.ended and (self.model.check_times[job_id] or 0.0) <= now
        ]
        assert self.run(prune(self.store, 100, HOUR)) == len(due)
        for job_id in due:
            self.model.remove(job_id)

    @rule(view=views)
    def forget(self, view: Stored | Missing) -> None:
        """Somebody removes what he has seen, perhaps too late."""
        if isinstance(view, Stored):
            job = self.model.jobs.get(view.job.id)
            expected = job is not None and job.rev == view.job.rev and job.state.ended
            assert self.run(removed(self.store, view.job)) == [expected]
            if expected:
                self.model.remove(view.job.id)

    @rule()
    def reopen(self) -> None:
        """The process ends, and another goes on."""
        self.run(self.store.close())
        self.run(self.store.open())

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        """Jobs, leases, listings and counters agree; they are read at once, to share trips."""
        known = sorted({*self.model.jobs, *self.model.gone})
        expected = [self.model.stored(job_id) for job_id in known]
        stored = [each for each in expected if isinstance(each, Stored)]

        spots = [(job_id, step) for job_id in known for step in range(6)]

        async def read() -> tuple[
            list[Stored | Missing], list[Page], None, list[bytes | None], list[list[Entry]]
        ]:
            pages = asyncio.gather(
                *(listing.page(self.store, Filter(states=(state,)), 100) for state in State)
            )
            counted = assert_counted(self.store, stored)
            results = self.store.results(spots)
            journals = asyncio.gather(*(self.store.journal(job_id, 0, 1000) for job_id in known))
            return await asyncio.gather(self.store.find(known), pages, counted, results, journals)

        found, pages, _, results, journals = self.run(read())
        assert journals == [self.model.journals.get(job_id, []) for job_id in known]
        entered = {
            job_id: {entry.step for entry in self.model.journals[job_id]} for job_id in self.model.journals
        }
        for job in self.model.jobs.values():
            ended = {i for i, step in enumerate(job.steps) if step.worker is not None}
            assert entered.get(job.id, set()) >= ended if has_journal(job) else job.id not in entered
        assert results == [self.model.results.get(spot) for spot in spots]
        assert [by_step(each) for each in found] == expected
        for state, page in zip(State, pages, strict=True):
            assert {each.job.id for each in page.jobs} == {
                each.job.id for each in stored if each.state is state
            }

    def teardown(self) -> None:
        try:
            self.run(assert_no_leaks(self.store))
            self.run(assert_nothing_left(self.store, self.url))
        finally:
            self.run(self.store.close())
            self.runner.close()


def as_held(claim: Claim) -> Held:
    """A claimed lease as its worker knows it."""
    return Held(claim.job.id, claim.lease.step, claim.lease.token)


def by_step(found: Stored | Missing) -> Stored | Missing:
    """With leases in the order of their steps."""
    if isinstance(found, Missing):
        return found
    return replace(found, leases=tuple(sorted(found.leases, key=lambda lease: lease.step)))


@pytest.mark.generated
@pytest.mark.timeout(600)  # `make test-long` plays 200 histories on each driver
def test_a_store_does_what_a_dictionary_would(driver: str, new_url: Callable[[], str]) -> None:
    """Whatever is done in whatever order."""

    class Here(Lives):
        """On the driver under test."""

        def __init__(self) -> None:
            super().__init__(new_url())

    played = settings(stateful_step_count=30)
    if driver in ("valkey-cluster", "redis"):  # the others play the rest of the same code in less time
        played = settings(played, max_examples=played.max_examples // 4)
    run_state_machine_as_test(Here, settings=played)
