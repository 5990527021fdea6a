"""What every store does with changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from raincheck.core import lifecycle
from raincheck.core.clock import new_id
from raincheck.core.model import Change, Key, QueueEntry, Release, RetryOptions, State, Stored
from raincheck.core.triggers import Check
from raincheck.store import listing
from raincheck.store.base import Conflict, Duplicate, Filter, Missing, Store
from tests.contract.steps import (
    HOUR,
    SOON,
    after,
    cancelled,
    draft,
    extend,
    failed,
    finish,
    get,
    held,
    later,
    look,
    lost,
    submission,
    submit,
    succeeded,
    take,
    take_one,
    write,
)

CONFLICT = Conflict()


class TestWriting:
    """A change that applies."""

    async def test_a_job_is_stored_as_it_was_committed(self, store: Store) -> None:
        """What is found equals what was written."""
        job = await submit(store, "f", ("g", "h"), name="n", priority=3, data=b'{"a":1}')
        assert (await get(store, job.id)).job == job

    async def test_a_new_state_replaces_the_old_one(self, store: Store) -> None:
        """There is one record a job, at its latest revision."""
        job = await submit(store, "f")
        after = await finish(store, await take_one(store), b'"done"')
        assert (await get(store, job.id)).job == after
        assert (after.rev, after.state, after.steps[0].result) == (2, State.DONE, b'"done"')

    async def test_outcomes_come_in_the_order_of_the_changes(self, store: Store) -> None:
        """Each change is told apart, wherever in the batch it is."""
        known = submission(store, draft())
        assert await write(store, known) is None
        fresh = [submission(store, draft()) for _ in range(2)]
        assert await store.commit([fresh[0], known, fresh[1]]) == [None, CONFLICT, None]

    async def test_a_change_that_does_not_apply_hinders_no_other(self, store: Store) -> None:
        """Each change of a batch stands on its own."""
        known, fresh = submission(store, draft()), submission(store, draft())
        assert await store.commit([known, fresh, known]) == [None, None, CONFLICT]
        assert (await get(store, fresh.job.id)).job == fresh.job

    async def test_no_changes_have_no_outcomes(self, store: Store) -> None:
        """An empty batch is a batch."""
        assert await store.commit([]) == []

    async def test_the_next_step_is_ready_when_the_one_before_is_written(self, store: Store) -> None:
        """The result and the next place are one write."""
        await submit(store, "f", "g")
        await finish(store, await take_one(store, "f"), b"7")
        claim = await take_one(store, "g")
        assert lifecycle.previous_results(claim.job, claim.step.stage) == b"7"

    async def test_places_dropped_from_the_queue_are_never_claimed(self, store: Store) -> None:
        """A job that fails at its deadline leaves nothing in the queue."""
        job = await submit(store, ("f", "g"), expires_at=later(store, 0.0))
        assert await write(store, after(store, job, Check())) is None
        assert await take(store, "f", "g") == []
        assert (await store.counts()).queued == {}

    async def test_a_place_that_is_dropped_while_leased_ends_the_lease(self, store: Store) -> None:
        """Whoever held the step has lost it."""
        job = await submit(store, ("f", "g"), expires_at=later(store, 0.0))
        claim = await take_one(store, "f")
        assert await write(store, after(store, job, Check((claim.lease,)))) is None
        assert await extend(store, [claim], HOUR) == [None]
        assert (await store.counts()).leased == 0

    async def test_a_place_to_be_dropped_may_be_gone_already(self, store: Store) -> None:
        """To drop is no guard."""
        job = await submit(store, "f")
        change = after(store, job, Check())
        elsewhere = QueueEntry(step=0, function="elsewhere", priority=0, due=1.0)
        assert await write(store, replace(change, drop=(elsewhere,))) is None
        assert len(await take(store)) == 1

    async def test_what_was_committed_is_there_when_the_store_is_opened_again(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """An acknowledged change outlives whoever made it."""
        job = await submit(store, "f")
        claim = await take_one(store)
        await store.close()
        await store.open()
        assert await get(store, job.id) == await get(store, claim.job.id)
        assert (await get(store, job.id)).leases == (claim.lease,)

    async def test_other_processes_see_a_change_at_once(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """When a commit returns, everybody can read it."""
        other = another()
        await other.open()
        for _ in range(20):
            job = await submit(store, "f")
            assert (await get(other, job.id)).job == job


class TestGuards:
    """A change that must not apply writes nothing."""

    async def assert_conflict(self, store: Store, change: Change) -> None:
        """The change conflicts, and leaves everything as it was."""
        before, counts = await look(store, change.job.id), await store.counts()
        change = replace(change, key=Key(new_id(), b"", later(store)))
        assert await write(store, change) == CONFLICT
        assert (await look(store, change.job.id), await store.counts()) == (before, counts)
        probe = submission(store, draft("probe"), change.key)
        assert await write(store, probe) is None  # the key was not kept either

    async def test_a_job_is_submitted_once(self, store: Store) -> None:
        """The first revision needs that there is no such job."""
        job = await submit(store, "f")
        await self.assert_conflict(store, submission(store, replace(job, name="another")))

    async def test_an_unknown_job_cannot_be_changed(self, store: Store) -> None:
        """A later revision needs that there is such a job."""
        await self.assert_conflict(store, cancelled_draft(store))

    async def test_a_change_follows_the_revision_it_was_made_from(self, store: Store) -> None:
        """A decision about an old state is void."""
        job = await submit(store, "f")
        change = cancelled(store, await get(store, job.id))
        await self.assert_conflict(store, replace(change, job=replace(change.job, rev=3)))
        assert await write(store, change) is None
        await self.assert_conflict(store, change)

    async def test_a_place_to_be_taken_must_be_in_the_queue(self, store: Store) -> None:
        """A job cannot be cancelled as waiting that has just been claimed."""
        stored = await get(store, (await submit(store, "f")).id)
        change = cancelled(store, stored)
        await take_one(store)
        await self.assert_conflict(store, change)

    async def test_every_place_to_be_taken_must_be_there(self, store: Store) -> None:
        """One that is missing is enough."""
        job = await submit(store, ("f", "g"))
        change = cancelled(store, await get(store, job.id))
        await take_one(store, "g")
        await self.assert_conflict(store, change)

    async def test_a_place_is_known_by_all_it_says(self, store: Store) -> None:
        """Another function, priority, due time or step is another place."""
        job = await submit(store, ("f", "g"))
        change = cancelled(store, await get(store, job.id))
        place = change.take[0]
        for other in (
            replace(place, function="g"),
            replace(place, priority=1),
            replace(place, due=place.due - 1.0),
            replace(place, step=1),
        ):
            await self.assert_conflict(store, replace(change, take=(other,)))

    async def test_a_lease_to_be_released_must_be_in_force(self, store: Store) -> None:
        """Neither another token, nor another step, nor a step never leased will do."""
        await submit(store, ("f", "g"))
        claim = await take_one(store, "f")
        change = succeeded(store, claim)
        token = claim.lease.token
        for wrong in (Release(0, token - 1), Release(0, token + 1), Release(1, token)):
            await self.assert_conflict(store, replace(change, release=(wrong,)))
        assert await write(store, change) is None

    async def test_every_lease_must_be_in_force(self, store: Store) -> None:
        """One that is lost is enough."""
        await submit(store, ("f", "g"))
        f, g = await take_one(store, "f"), await take_one(store, "g")
        change = succeeded(store, f)
        both = (*change.release, Release(g.lease.step, g.lease.token + 1))
        await self.assert_conflict(store, replace(change, release=both))
        await self.assert_conflict(store, replace(change, hold=both[1:]))

    async def test_a_lease_is_released_as_expired_only_when_it_has_run_out(self, store: Store) -> None:
        """Who extends in time keeps the step, whatever a sweeper has seen before."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        change = lost(store, claim)
        await extend(store, [claim], HOUR)
        await self.assert_conflict(store, change)
        await extend(store, [claim], 0.0)
        assert await write(store, change) is None

    async def test_a_lease_to_be_held_stays(self, store: Store) -> None:
        """To ask a running job to stop takes nothing from its worker."""
        job = await submit(store, "f")
        claim = await take_one(store)
        assert await write(store, cancelled(store, await get(store, job.id))) is None
        assert (await get(store, job.id)).leases == (claim.lease,)
        assert await extend(store, [claim], HOUR) == [2]

    async def test_a_lease_to_be_held_must_be_in_force(self, store: Store) -> None:
        """A job cannot be asked to stop through a lease that was given back."""
        job = await submit(store, "f")
        claim = await take_one(store)
        change = cancelled(store, await get(store, job.id))
        await store.release([held(claim)])
        await self.assert_conflict(store, change)

    async def test_a_new_job_has_nothing_to_be_taken_or_released(self, store: Store) -> None:
        """What a first revision asks to be there cannot be."""
        change = submission(store, draft())
        release = (Release(0, 1),)
        for asking in (
            replace(change, take=change.put),
            replace(change, release=release),
            replace(change, hold=release),
        ):
            await self.assert_conflict(store, asking)

    async def test_of_two_changes_of_one_job_in_a_batch_one_applies(self, store: Store) -> None:
        """The second was decided without knowing of the first."""
        await submit(store, ("f", "g"))
        changes = [succeeded(store, await take_one(store, function)) for function in ("f", "g")]
        assert await store.commit(changes) == [None, CONFLICT]

    async def test_of_many_at_once_one_applies(self, store: Store) -> None:
        """Nobody overwrites what another has just written."""
        change = cancelled(store, await get(store, (await submit(store, "f")).id))
        results = await asyncio.gather(*(write(store, change) for _ in range(50)))
        assert sorted(results, key=str) == [CONFLICT] * 49 + [None]

    async def test_of_many_processes_at_once_one_applies(
        self, store: Store, another: Callable[[], Store]
    ) -> None:
        """Nor does another process."""
        stores = [store, another(), another()]
        for each in stores[1:]:
            await each.open()
        for _ in range(20):
            change = cancelled(store, await get(store, (await submit(store, "f")).id))
            results = await asyncio.gather(*(write(each, change) for each in stores))
            assert sorted(results, key=str) == [CONFLICT, CONFLICT, None]


class TestFencing:
    """A lease that was lost writes nothing."""

    async def test_a_late_result_is_refused(self, store: Store) -> None:
        """Once a step is known to be lost, what its worker brings counts for nothing."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late)) is None
        assert await write(store, succeeded(store, late)) == CONFLICT
        assert (await get(store, job.id)).job.steps[0].result is None

    async def test_a_late_result_is_refused_though_its_worker_holds_a_newer_lease(self, store: Store) -> None:
        """It is the token that counts, not the worker: even a revision decided anew cannot use an old one."""
        await submit(store, "f")
        late = await take_one(store, lease=0.0, worker="w")
        assert await write(store, lost(store, late)) is None
        newer = await take_one(store, worker="w")
        assert newer.lease.token > late.lease.token
        stale = replace(late, job=newer.job)
        assert await write(store, succeeded(store, stale, b'"late"')) == CONFLICT
        assert (await finish(store, newer, b'"newer"')).steps[0].result == b'"newer"'

    async def test_a_result_is_recorded_once(self, store: Store) -> None:
        """The same finish sent again changes nothing."""
        await submit(store, "f")
        change = succeeded(store, await take_one(store))
        assert await store.commit([change, change]) == [None, CONFLICT]
        assert await write(store, change) == CONFLICT

    async def test_a_lease_that_ran_out_unnoticed_is_still_in_force(self, store: Store) -> None:
        """A result that comes before anybody else took the step is not thrown away."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        assert (await finish(store, claim)).state is State.DONE

    async def test_a_step_that_is_tried_again_has_a_new_token(self, store: Store) -> None:
        """Tokens are never used twice, whatever became of the attempt."""
        await submit(store, "f")
        tokens = []
        for _ in range(3):
            claim = await take_one(store)
            tokens.append(claim.lease.token)
            change = failed(store, claim, RetryOptions(retry_limit=5, delay=0.0))
            assert await write(store, change) is None
        assert tokens == sorted(set(tokens))


class TestKeys:
    """Idempotency keys."""

    async def test_a_key_leads_to_the_job_that_it_was_used_for(self, store: Store) -> None:
        """A request sent twice makes one job."""
        key = Key("k", b"fingerprint", later(store))
        first, second = submission(store, draft(), key), submission(store, draft(), key)
        assert await write(store, first) is None
        assert await write(store, second) == Duplicate(first.job.id, b"fingerprint")
        assert isinstance(await look(store, second.job.id), Missing)

    async def test_a_key_holds_within_a_batch(self, store: Store) -> None:
        """Two requests that come at the same time make one job."""
        key = Key("k", b"", later(store))
        first, second = submission(store, draft(), key), submission(store, draft(), key)
        assert await store.commit([first, second]) == [None, Duplicate(first.job.id, b"")]

    async def test_a_key_holds_between_callers(self, store: Store) -> None:
        """Of many that use it at once, one makes a job."""
        key = Key("k", b"", later(store))
        outcomes = await asyncio.gather(*(write(store, submission(store, draft(), key)) for _ in range(30)))
        assert sum(outcome is None for outcome in outcomes) == 1
        assert len({outcome.job_id for outcome in outcomes if isinstance(outcome, Duplicate)}) == 1

    async def test_another_request_with_the_same_key_is_told_the_first_fingerprint(
        self, store: Store
    ) -> None:
        """So that the caller can be told of his mistake."""
        first = submission(store, draft(), Key("k", b"one", later(store)))
        assert await write(store, first) is None
        second = submission(store, draft(), Key("k", b"two", later(store)))
        assert await write(store, second) == Duplicate(first.job.id, b"one")

    async def test_a_key_that_ran_out_can_be_used_again(self, store: Store) -> None:
        """A key is remembered until its time, and no longer."""
        assert await write(store, submission(store, draft(), Key("k", b"old", later(store, 0.0)))) is None
        fresh = submission(store, draft(), Key("k", b"new", later(store)))
        assert await write(store, fresh) is None
        again = submission(store, draft(), Key("k", b"new", later(store)))
        assert await write(store, again) == Duplicate(fresh.job.id, b"new")

    async def test_keys_differ_by_every_character(self, store: Store) -> None:
        """Case, blanks and NUL included."""
        keys = ["k", "K", "k ", "k\0", "ķ", ""]
        changes = [submission(store, draft(), Key(key, b"", later(store))) for key in keys]
        assert await store.commit(changes) == [None] * len(keys)

    async def test_a_request_sent_again_is_known_by_its_key_first(self, store: Store) -> None:
        """Whose answer was lost may send the very same change again."""
        change = submission(store, draft(), Key("k", b"", later(store)))
        assert await write(store, change) is None
        assert await write(store, change) == Duplicate(change.job.id, b"")

    async def test_a_request_given_up_keeps_no_key_from_others(self, store: Store) -> None:
        """Who sends it again gets a new job within seconds, or the one that is there."""
        keys = [Key(f"k{turns}", b"", later(store)) for turns in range(20)]
        for turns, key in enumerate(keys):
            writing = asyncio.create_task(write(store, submission(store, draft(), key)))
            for _ in range(15 * turns):
                await asyncio.sleep(0)
            writing.cancel()
        async with asyncio.timeout(SOON):
            outcomes = await asyncio.gather(*(write(store, submission(store, draft(), key)) for key in keys))
        duplicates = [outcome.job_id for outcome in outcomes if isinstance(outcome, Duplicate)]
        assert all(isinstance(found, Stored) for found in await store.find(duplicates))
        assert len((await listing.page(store, Filter(), 100)).jobs) == len(keys)


def cancelled_draft(store: Store) -> Change:
    """A change of a job that nobody submitted."""
    change = submission(store, draft())
    return Change(job=replace(change.job, rev=2))
