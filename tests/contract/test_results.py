"""What every store does with large results: written once, beside the record, and removed with their job."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.model import Claim, Job, Stored
from raincheck.core.stages import INLINE_RESULT
from raincheck.core.triggers import Retry, Succeeded
from raincheck.engine.results import load_one, load_previous, load_stored
from raincheck.store.base import Conflict, Filter, Missing, Store
from tests.contract.leaks import listed
from tests.contract.steps import (
    after,
    cancelled,
    failed,
    finish,
    get,
    look,
    lost,
    prune,
    removed,
    submit,
    succeeded,
    take,
    take_one,
    write,
)

LARGE = b'"' + b"x" * INLINE_RESULT + b'"'
HUGE = b'"' + b"y" * 8_000_000 + b'"'


async def with_result(store: Store, result: bytes = LARGE, **fields: object) -> Job:
    """A job of one step that has ended with a result."""
    await submit(store, "large", **fields)
    return await finish(store, await take_one(store, "large"), result)


class TestWriting:
    """Once, in the same step as the record."""

    async def test_a_large_result_is_read_back(self, store: Store) -> None:
        """It is not in the record, which says how large it is."""
        job = await with_result(store)
        stored = await get(store, job.id)
        assert (stored.job.steps[0].result, stored.job.steps[0].result_size) == (None, len(LARGE))
        assert await store.results([(job.id, 0)]) == [LARGE]
        assert (await load_one(store, stored)).job.steps[0].result == LARGE

    async def test_a_small_result_is_in_the_record(self, store: Store) -> None:
        """Up to the limit; nothing is beside it."""
        result = b'"' + b"x" * (INLINE_RESULT - 2) + b'"'
        job = await with_result(store, result)
        stored = await get(store, job.id)
        assert (stored.job.steps[0].result, stored.job.steps[0].result_size) == (result, None)
        assert await store.results([(job.id, 0)]) == [None]
        assert await load_one(store, stored) == stored

    async def test_each_step_has_its_own(self, store: Store) -> None:
        """They come in the order asked for, whatever else is asked for."""
        job = await submit(store, ("f", "g"), "h")
        other = await with_result(store, b'"other' + LARGE[1:])
        f, g = await take_one(store, "f"), await take_one(store, "g")
        await finish(store, f, LARGE)
        g = Claim((await get(store, job.id)).job, g.lease)
        await finish(store, g, HUGE)
        await finish(store, await take_one(store, "h"), b"1")
        wanted = [(job.id, 1), (job.id, 2), (other.id, 0), ("unknown", 0), (job.id, 0), (job.id, 9)]
        expected = [HUGE, None, b'"other' + LARGE[1:], None, LARGE, None]
        assert await store.results(wanted) == expected
        assert await store.results([]) == []

    async def test_a_conflict_writes_no_result(self, store: Store) -> None:
        """Neither for a lease that was lost, nor for a job that has changed."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late)) is None
        again = await take_one(store)
        assert await write(store, succeeded(store, late, LARGE)) == Conflict()
        assert await store.results([(job.id, 0)]) == [None]
        assert await write(store, cancelled(store, await get(store, job.id))) is None
        assert await write(store, succeeded(store, again, LARGE)) == Conflict()
        assert await store.results([(job.id, 0)]) == [None]

    async def test_many_are_written_at_once(self, store: Store) -> None:
        """Some of them large, in one batch; each goes to its own job."""
        jobs = [await submit(store, "f") for _ in range(20)]
        claims = await take(store)
        results = {
            claim.job.id: LARGE[:-1] + b'%d"' % i if i % 3 else b"%d" % i for i, claim in enumerate(claims)
        }
        changes = [succeeded(store, claim, results[claim.job.id]) for claim in claims]
        assert await store.commit(changes) == [None] * len(jobs)
        loaded = await load_stored(store, [await get(store, job.id) for job in jobs])
        found = {each.job.id: each.job.steps[0].result for each in loaded if isinstance(each, Stored)}
        assert found == results

    async def test_an_old_record_with_a_large_result_stays_readable(self, store: Store) -> None:
        """Before, results of any size were in it."""
        await submit(store, "f", "g")
        change = succeeded(store, await take_one(store), LARGE)
        steps = (replace(change.job.steps[0], result=LARGE, result_size=None), *change.job.steps[1:])
        assert await write(store, replace(change, job=replace(change.job, steps=steps), results=())) is None
        claim = await take_one(store, "g")
        assert await load_previous(store, [claim]) == [LARGE]
        job = await finish(store, claim)
        assert (await load_one(store, await get(store, job.id))).job.steps[0].result == LARGE


class TestReading:
    """Only for those who need them."""

    async def test_a_claim_brings_none(self, store: Store) -> None:
        """What the step before returned is read for it, once for all claims of a job."""
        await submit(store, ("f", "f"), ("g", "g", "g"))
        for _ in range(2):
            await finish(store, await take_one(store), LARGE)
        claims = await take(store, "g")
        assert [len(claims), *{claim.job.steps[0].result for claim in claims}] == [3, None]
        assert await load_previous(store, claims) == [b"[%b,%b]" % (LARGE, LARGE)] * 3

    async def test_results_of_a_job_that_was_removed_meanwhile_are_gone(self, store: Store) -> None:
        """Never a job without its results."""
        job = await with_result(store)
        stored = await get(store, job.id)
        assert await removed(store, job) == [True]
        assert await load_stored(store, [stored]) == [Missing(gone=True)]

    async def test_done_steps_keep_theirs_over_a_retry(self, store: Store) -> None:
        """What was done is not done again."""
        job = await submit(store, "f", "g")
        await finish(store, await take_one(store), LARGE)
        assert await write(store, failed(store, await take_one(store, "g"))) is None
        again = after(store, (await get(store, job.id)).job, Retry())
        assert await write(store, again) is None
        claim = await take_one(store, "g")
        assert await load_previous(store, [claim]) == [LARGE]
        await finish(store, claim, HUGE)
        assert await store.results([(job.id, 0), (job.id, 1)]) == [LARGE, HUGE]

    async def test_a_listing_shows_them(self, store: Store) -> None:
        """Put back for all jobs of a page together."""
        for i in range(5):
            await with_result(store, LARGE if i % 2 else b"1")
        loaded = await load_stored(store, await listed(store, Filter(function="large")))
        results = [each.job.steps[0].result for each in loaded if isinstance(each, Stored)]
        assert results == [b"1", LARGE, b"1", LARGE, b"1"]

    async def test_they_survive_reopening(self, store: Store) -> None:
        """They are as durable as the record."""
        job = await with_result(store)
        await store.close()
        await store.open()
        assert await store.results([(job.id, 0)]) == [LARGE]


class TestRemoving:
    """They go with their job."""

    async def test_a_pruned_job_leaves_none(self, store: Store) -> None:
        """An id that is used again has none of the first job's."""
        job = await with_result(store, result_ttl=0.0)
        kept = await with_result(store)
        assert await prune(store, 10, 0.0) == 1
        assert await store.results([(job.id, 0), (kept.id, 0)]) == [None, LARGE]
        assert isinstance(await look(store, job.id), Missing)
        await submit(store, "again", id=job.id)
        assert await store.results([(job.id, 0)]) == [None]

    async def test_a_removed_job_leaves_none(self, store: Store) -> None:
        """Of none of its steps."""
        job = await submit(store, ("f", "g"), "h")
        for function in ("f", "g", "h"):
            claim = await take_one(store, function)
            stored = await get(store, job.id)
            change = after(store, stored.job, Succeeded(lifecycle.attempt_of(claim.lease), LARGE))
            assert await write(store, change) is None
        ended = (await get(store, job.id)).job
        assert await removed(store, ended) == [True]
        assert await store.results([(job.id, i) for i in range(3)]) == [None] * 3
