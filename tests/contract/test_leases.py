"""What every store does with leases: heartbeat, release, report."""

from __future__ import annotations

from threading import Thread

from msgspec.structs import replace

from raincheck.store.base import Held, Store
from tests.contract.steps import (
    HOUR,
    SOON,
    beat,
    cancelled,
    extend,
    finish,
    get,
    held,
    info,
    later,
    lost,
    submit,
    submit_many,
    take,
    take_one,
    waiting,
    write,
)


class TestHeartbeat:
    """A worker keeps its leases."""

    async def test_a_lease_runs_from_now_on(self, store: Store) -> None:
        """Not from when it would have run out."""
        job = await submit(store, "f")
        claim = await take_one(store, lease=HOUR)
        before = store.now()
        assert await extend(store, [claim], 60.0) == [1]
        (lease,) = (await get(store, job.id)).leases
        assert before + 60.0 <= lease.until <= store.now() + 60.0
        assert replace(lease, until=claim.lease.until) == claim.lease

    async def test_an_extended_lease_is_not_lost(self, store: Store) -> None:
        """Even if it had run out: nobody has noticed yet."""
        await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        assert await extend(store, [claim], HOUR) == [1]
        assert (await store.due(10)).leases == []

    async def test_the_answer_is_the_revision_of_the_job(self, store: Store) -> None:
        """So that a worker learns of a wish to cancel."""
        job = await submit(store, "f")
        claim = await take_one(store)
        assert await write(store, cancelled(store, await get(store, job.id))) is None
        assert await extend(store, [claim], HOUR) == [2]

    async def test_each_lease_has_its_answer(self, store: Store) -> None:
        """In their order, whichever are lost."""
        await submit_many(store, 5, "f")
        claims = await take(store)
        await finish(store, claims[1])
        await store.release([held(claims[3])])
        assert await extend(store, claims, HOUR) == [1, None, 1, None, 1]

    async def test_nothing_held_is_nothing_to_extend(self, store: Store) -> None:
        """An empty batch is a batch."""
        assert await extend(store, [], HOUR) == []

    async def test_another_token_extends_nothing(self, store: Store) -> None:
        """Neither an older one, nor one of an unknown job or another step."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late)) is None
        claim = await take_one(store, lease=HOUR)
        token = claim.lease.token
        wrong = [held(late), Held("unknown", 0, token), Held(job.id, 1, token)]
        assert await beat(store, wrong, 2 * HOUR) == [None, None, None]
        assert (await get(store, job.id)).leases == (claim.lease,)

    async def test_a_thread_without_a_loop_extends(self, store: Store) -> None:
        """While the loop that claimed does something else."""
        await submit(store, "f")
        claim = await take_one(store)
        answers: list[int | None] = []
        thread = Thread(
            target=lambda: answers.extend(store.heartbeat(info(state="stopped"), [held(claim)], HOUR))
        )
        thread.start()
        thread.join(SOON)  # blocks this loop all the while
        assert answers == [1]


class TestRelease:
    """A worker gives steps back, unrun."""

    async def test_a_step_returns_to_its_place(self, store: Store) -> None:
        """Before what was due after it, and without a trace in the job."""
        jobs = await submit_many(store, 3, "f")
        first = await take_one(store)
        await store.release([held(first)])
        assert (await get(store, first.job.id)).job == first.job
        assert [claim.job.id for claim in await take(store)] == [job.id for job in jobs]

    async def test_a_step_returns_with_its_priority(self, store: Store) -> None:
        """The urgent stays urgent."""
        urgent = await submit(store, "f", priority=5)
        claim = await take_one(store)
        await submit(store, "f", priority=4)
        await store.release([held(claim)])
        assert (await take_one(store)).job.id == urgent.id

    async def test_only_whoever_holds_a_step_gives_it_back(self, store: Store) -> None:
        """An old token moves nothing."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late)) is None
        claim = await take_one(store)
        await store.release([held(late), Held("unknown", 0, claim.lease.token)])
        assert (await get(store, job.id)).leases == (claim.lease,)
        assert await take(store) == []

    async def test_a_step_given_back_twice_is_there_once(self, store: Store) -> None:
        """In one call or in two."""
        await submit(store, "f")
        claim = await take_one(store)
        await store.release([held(claim), held(claim)])
        await store.release([held(claim)])
        assert (await store.counts()).queued == {"f": 1}
        assert len(await take(store)) == 1

    async def test_an_ended_lease_is_not_given_back(self, store: Store) -> None:
        """A finished step is not run again."""
        await submit(store, "f")
        claim = await take_one(store)
        await finish(store, claim)
        await store.release([held(claim)])
        assert await take(store) == []

    async def test_a_step_that_was_due_later_is_due_then_again(self, store: Store) -> None:
        """Its place is the same in every respect."""
        due = later(store, 0.05)
        job = await submit(store, "f", scheduled_at=due)
        (claim,) = await store.claim("w", ("f",), 1, HOUR, SOON)
        await store.release([held(claim)])
        assert await write(store, cancelled(store, await get(store, job.id))) is None
        assert await take(store) == []


class TestReport:
    """A worker tells how far it has come."""

    async def test_progress_is_shown_with_the_lease(self, store: Store) -> None:
        """Whoever looks sees it, the latest only."""
        job = await submit(store, "f")
        claim = await take_one(store)
        assert (await get(store, job.id)).leases[0].progress is None
        assert [await store.report(held(claim), p) for p in (b"0.5", b'{"n":"\\u0000"}')] == [True, True]
        assert (await get(store, job.id)).leases == (replace(claim.lease, progress=b'{"n":"\\u0000"}'),)

    async def test_progress_is_no_change_of_the_job(self, store: Store) -> None:
        """Its revision stays, so whoever decides needs not decide anew."""
        job = await submit(store, "f")
        claim = await take_one(store)
        await store.report(held(claim), b"0.5")
        assert (await get(store, job.id)).job == job
        await finish(store, claim)

    async def test_progress_of_a_lost_lease_is_not_noted(self, store: Store) -> None:
        """Its worker is told so."""
        job = await submit(store, "f")
        late = await take_one(store, lease=0.0)
        assert await write(store, lost(store, late)) is None
        claim = await take_one(store)
        assert await store.report(held(late), b"1") is False
        assert await store.report(Held("unknown", 0, claim.lease.token), b"1") is False
        assert (await get(store, job.id)).leases == (claim.lease,)

    async def test_progress_survives_an_extension(self, store: Store) -> None:
        """The two do not touch each other."""
        job = await submit(store, "f")
        claim = await take_one(store)
        await store.report(held(claim), b"0.5")
        await extend(store, [claim], 2 * HOUR)
        assert (await get(store, job.id)).leases[0].progress == b"0.5"

    async def test_the_next_attempt_begins_without_progress(self, store: Store) -> None:
        """It is the attempt that has come so far, not the step."""
        await submit(store, "f")
        claim = await take_one(store)
        await store.report(held(claim), b"0.5")
        async with waiting(store, store.claim("w", ("f",), 1, HOUR, SOON)) as claiming:
            await store.release([held(claim)])
            (again,) = await claiming
        assert again.lease.progress is None
