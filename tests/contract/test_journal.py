"""What every store does with the journal of a job: it is appended to with the record, and removed with it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.codec import decode_attempt
from raincheck.core.journal import ATTEMPT, KEPT_ATTEMPTS, recorded_attempts
from raincheck.core.model import AttemptOutcome, Change, Claim, Entry, Job, Problem, RetryOptions
from raincheck.core.triggers import Check, Failed, Retry
from raincheck.store.base import Conflict, Store
from tests.contract.steps import (
    HOUR,
    after,
    cancelled,
    done,
    failed,
    finish,
    get,
    lost,
    prune,
    removed,
    stopped,
    submit,
    succeeded,
    take,
    take_one,
    write,
)

AGAIN = RetryOptions(retry_limit=1_000_000, delay=0.0, lost_limit=1_000_000)
TRACEBACK = "Traceback\n" + "x" * 16_000


async def fail(store: Store, function: str = "f", traceback: str = "") -> Job:
    """Fail a step that is retried at once; the job after it."""
    claim = await take_one(store, function)
    attempt, error = lifecycle.attempt_of(claim.lease), Problem(title="It failed")
    trigger = Failed(attempt, error, options=AGAIN, traceback=traceback)
    change = after(store, claim.job, trigger)
    assert await write(store, change) is None
    return change.job


async def attempts(store: Store, job_id: str) -> list[tuple[int, int | None, int, int, str]]:
    """The journal of a job: number, step, run, number of the attempt, outcome."""
    entries = await store.journal(job_id, 0, 10_000)
    ended = [decode_attempt(entry.value) for entry in entries]
    return [
        (entry.number, entry.step, each.run, each.number, str(each.outcome))
        for entry, each in zip(entries, ended, strict=True)
    ]


class TestWriting:
    """In the same step as the record, and only what did not simply succeed."""

    async def test_a_job_that_succeeds_has_none(self, store: Store) -> None:
        """Its change has no entries; the record says all."""
        job = await submit(store, ("f", "f"), "g")
        for function in ("f", "f", "g"):
            claim = await take_one(store, function)
            change = succeeded(store, replace(claim, job=(await get(store, job.id)).job))
            assert change.journal == ()
            assert await write(store, change) is None
        assert await store.journal(job.id, 0, 10) == []
        recorded = recorded_attempts(change.job.steps, change.job.run)
        assert [(entry.number, entry.step) for entry in recorded] == [(1, 0), (2, 1), (3, 2)]

    async def test_an_attempt_that_failed_is_entered(self, store: Store) -> None:
        """With what is known of it."""
        job = await submit(store, "f")
        failed_at = (await fail(store, traceback=TRACEBACK)).updated_at
        (entry,) = await store.journal(job.id, 0, 10)
        assert (entry.number, entry.kind, entry.step) == (1, ATTEMPT, 0)
        ended = decode_attempt(entry.value)
        assert (ended.outcome, ended.traceback, ended.worker) == ("retried", TRACEBACK, "w")
        assert ended.finished_at == failed_at >= ended.started_at
        assert ended.error is not None
        assert (ended.error.title, ended.error.attempt, ended.error.retryable) == ("It failed", 1, True)

    async def test_a_success_after_a_failure_is_entered(self, store: Store) -> None:
        """As are those before it, first: each attempt is in the journal once it has begun."""
        job = await submit(store, "f", "g", "h")
        await finish(store, await take_one(store, "f"))
        await fail(store, "g")
        await finish(store, await take_one(store, "g"))
        await finish(store, await take_one(store, "h"))
        assert await attempts(store, job.id) == [
            (1, 0, 1, 1, "done"),
            (2, 1, 1, 1, "retried"),
            (3, 1, 1, 2, "done"),
            (4, 2, 1, 1, "done"),
        ]

    async def test_every_outcome_has_its_name(self, store: Store) -> None:
        """Lost and cancelled ones, and one that was given up with its job."""
        outcomes = []
        claim = await submitted(store, 0.0)
        assert await write(store, lost(store, claim, AGAIN)) is None
        outcomes.append(await attempts(store, claim.job.id))
        claim = await submitted(store)
        change = cancelled(store, await get(store, claim.job.id))
        assert await write(store, change) is None
        assert await write(store, stopped(store, change.job, claim.lease)) is None
        outcomes.append(await attempts(store, claim.job.id))
        claim = await submitted(store, expires_at=store.now() + 0.001)
        while store.now() <= (claim.job.expires_at or 0.0):
            pass
        assert await write(store, after(store, claim.job, Check((claim.lease,)))) is None
        outcomes.append(await attempts(store, claim.job.id))
        assert [[each[-1] for each in entries] for entries in outcomes] == [
            ["lost"],
            ["cancelled"],
            ["given-up"],
        ]

    async def test_a_conflict_enters_nothing(self, store: Store) -> None:
        """The lease was lost, so the attempt does not count."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late, AGAIN)) is None
        assert await write(store, failed(store, late, AGAIN)) == Conflict()
        assert [each[-1] for each in await attempts(store, job.id)] == ["lost"]

    async def test_a_retry_of_the_job_goes_on(self, store: Store) -> None:
        """The numbers of entries continue; those of attempts begin anew with the run."""
        job = await submit(store, "f", "g")
        await finish(store, await take_one(store, "f"))
        assert await write(store, failed(store, await take_one(store, "g"))) is None
        assert await write(store, after(store, (await get(store, job.id)).job, Retry())) is None
        await finish(store, await take_one(store, "g"))
        assert await attempts(store, job.id) == [
            (1, 0, 1, 1, "done"),
            (2, 1, 1, 1, "failed"),
            (3, 1, 2, 1, "done"),
        ]

    async def test_many_jobs_in_one_batch(self, store: Store) -> None:
        """Each has its own numbers; results and entries do not mix."""
        large = b'"' + b"x" * 5000 + b'"'
        jobs = [await submit(store, ("f", "g")) for _ in range(30)]
        for claim in await take(store, "f"):
            attempt = lifecycle.attempt_of(claim.lease)
            error = Problem(title=claim.job.id)
            change = after(store, claim.job, Failed(attempt, error, options=AGAIN, traceback=TRACEBACK))
            assert await write(store, change) is None
        current = {job.id: (await get(store, job.id)).job for job in jobs}
        claims = [replace(claim, job=current[claim.job.id]) for claim in await take(store, "g")]
        changes = [succeeded(store, claim, large) for claim in claims]
        assert await store.commit(changes) == [None] * len(jobs)
        for job in jobs:
            assert [each[1:] for each in await attempts(store, job.id)] == [
                (0, 1, 1, "retried"),
                (1, 1, 1, "done"),
            ]
            error_of_first = decode_attempt((await store.journal(job.id, 0, 1))[0].value).error
            assert error_of_first is not None
            assert error_of_first.title == job.id
            assert await store.results([(job.id, 1)]) == [large]

    async def test_large_entries_in_one_batch(self, store: Store) -> None:
        """More than one call to a server may carry."""
        jobs = [await submit(store, "f") for _ in range(400)]
        changes = []
        for claim in await take(store, "f", limit=400):
            attempt = lifecycle.attempt_of(claim.lease)
            trigger = Failed(attempt, Problem(title="It failed"), traceback=TRACEBACK)
            changes.append(after(store, claim.job, trigger))
        assert await store.commit(changes) == [None] * len(jobs)
        (entry,) = await store.journal(jobs[-1].id, 0, 2)
        assert decode_attempt(entry.value).traceback == TRACEBACK


async def submitted(store: Store, lease: float = HOUR, **fields: object) -> Claim:
    """A claim of a new job."""
    function = f"f {fields} {lease}"
    await submit(store, function, **fields)
    return await take_one(store, function, lease=lease)


class TestKeeping:
    """The first of a step and the latest ones."""

    async def test_the_first_and_the_latest_are_kept(self, store: Store) -> None:
        """A gap in the numbers shows what is gone."""
        job = await submit(store, ("f", "g"))
        for _ in range(3):
            await fail(store, "g")
        for _ in range(KEPT_ATTEMPTS + 5):
            await fail(store, "f")
        found = await attempts(store, job.id)
        assert [each[3] for each in found if each[1] == 1] == [1, 2, 3]
        assert [each[3] for each in found if each[1] == 0] == [1, *range(6, KEPT_ATTEMPTS + 6)]
        assert [each[0] for each in found] == [1, 2, 3, 4, *range(9, KEPT_ATTEMPTS + 9)]

    async def test_kinds_are_kept_apart(self, store: Store) -> None:
        """Each kind and step has its own number to keep; an entry may be about the whole job."""
        job = await submit(store, "f")
        for number in range(4):
            entries = (
                Entry("log", None, b"log %d" % number, keep=1),
                Entry("logs", None, b"other %d" % number, keep=0),
                Entry("log", 0, b"\xff" * number, keep=2),
            )
            job = replace(job, rev=job.rev + 1)
            assert await write(store, Change(job=job, journal=entries)) is None
        found = [(e.kind, e.step, e.value) for e in await store.journal(job.id, 0, 100)]
        assert found == [
            ("log", None, b"log 0"),
            ("logs", None, b"other 0"),
            ("log", 0, b""),
            ("log", 0, b"\xff\xff"),
            ("log", None, b"log 3"),
            ("log", 0, b"\xff\xff\xff"),
        ]


class TestReading:
    """In pages, by number."""

    async def test_after_a_number(self, store: Store) -> None:
        """Up to a limit, also from within a gap."""
        job = await submit(store, "f")
        for _ in range(KEPT_ATTEMPTS + 9):
            await fail(store)
        numbers = [entry.number for entry in await store.journal(job.id, 0, 1000)]
        assert numbers == [1, *range(10, KEPT_ATTEMPTS + 10)]
        for start in (0, 1, 5, 9, 10, 28, 29, 10**12):
            page = await store.journal(job.id, start, 3)
            assert [entry.number for entry in page] == [n for n in numbers if n > start][:3]

    async def test_of_no_job(self, store: Store) -> None:
        """There are no entries."""
        assert await store.journal("01977f3c-0000-7000-8000-000000000000", 0, 10) == []
        assert await store.journal("none", 0, 10) == []

    async def test_they_survive_reopening(self, store: Store) -> None:
        """They are as durable as the record."""
        job = await submit(store, "f")
        await fail(store)
        await store.close()
        await store.open()
        assert len(await attempts(store, job.id)) == 1


class TestRemoving:
    """They go with their job."""

    async def test_a_removed_job_leaves_none(self, store: Store) -> None:
        """Its neighbours keep theirs."""
        jobs = [await submit(store, "f", result_ttl=0.0 if i == 1 else 3600.0) for i in range(3)]
        for claim in await take(store, "f"):
            assert await write(store, failed(store, claim)) is None
        assert await prune(store, 10, 0.0) == 1
        assert [len(await attempts(store, job.id)) for job in jobs] == [1, 0, 1]
        assert await removed(store, (await get(store, jobs[0].id)).job) == [True]
        assert [len(await attempts(store, job.id)) for job in jobs] == [0, 0, 1]

    async def test_an_id_that_is_used_again_begins_anew(self, store: Store) -> None:
        """Without the entries of the first job."""
        job = await submit(store, "f", result_ttl=0.0)
        assert await write(store, failed(store, await take_one(store))) is None
        assert await prune(store, 10, 0.0) == 1
        await submit(store, "f", id=job.id)
        await fail(store)
        assert await attempts(store, job.id) == [(1, 0, 1, 1, "retried")]
        await done(store)


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
def test_an_outcome_is_one_word(outcome: AttemptOutcome) -> None:
    """As the states are."""
    assert " " not in outcome
