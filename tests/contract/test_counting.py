"""What every store knows of workers and numbers: heartbeat, workers, counts."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.core.model import FunctionInfo, RetryOptions, State, WorkerInfo
from raincheck.store.base import Store
from tests.contract.steps import (
    HOUR,
    SOON,
    beat,
    cancelled,
    done,
    failed,
    finish,
    get,
    held,
    later,
    submit,
    submit_many,
    take,
    take_one,
    write,
)


def told(worker_id: str = "w1", **fields: object) -> WorkerInfo:
    """What a worker tells of itself."""
    function = FunctionInfo(
        name="math:add/2",
        doc="Add.\0ä",
        parameters={"type": "object", "properties": {"a": {"type": "number"}}},
        retry=RetryOptions(retry_limit=3),
        timeout=1.5,
    )
    worker = WorkerInfo(
        id=worker_id,
        host="host",
        pid=1,
        version="1.0",
        concurrency=10,
        functions=(function,),
        started_at=5.0,
        state="active",
    )
    return replace(worker, **fields)


class TestWorkers:
    """The register of workers."""

    async def test_a_worker_is_known_as_it_registered(self, store: Store) -> None:
        """With when it was seen, and until when it counts as there."""
        before = store.now()
        assert await beat(store, lease=60.0, worker=told()) == []
        (worker,) = await store.workers()
        assert before <= worker.seen_at <= store.now()
        assert worker.seen_until == worker.seen_at + 60.0
        assert replace(worker, seen_at=0.0, seen_until=0.0) == told()

    async def test_the_schema_of_a_function_has_any_number(self, store: Store) -> None:
        """Also an integer of more than 64 bits."""
        function = FunctionInfo(name="f", parameters={"properties": {"n": {"maximum": 2**70}}})
        await beat(store, lease=60.0, worker=told(functions=(function,)))
        (worker,) = await store.workers()
        assert worker.functions == (function,)

    async def test_a_worker_that_registers_again_is_there_once(self, store: Store) -> None:
        """As it said last."""
        await beat(store, worker=told())
        await beat(store, worker=told(concurrency=7, state="stopping"))
        assert [(w.concurrency, w.state) for w in await store.workers()] == [(7, "stopping")]

    async def test_a_worker_is_shown_with_the_leases_that_it_holds_now(self, store: Store) -> None:
        """Not with those it knew of when it last said something, nor with those of others."""
        await beat(store, worker=told("w1", running=5))
        await beat(store, worker=told("w2"))
        await submit_many(store, 20, "f", ("f", "g"))
        claims = await take(store, limit=7, worker="w1")
        await take(store, limit=2, worker="unknown")
        assert [(w.id, w.running) for w in await store.workers()] == [("w1", 7), ("w2", 0)]
        await store.release([held(claim) for claim in claims[:3]])
        await finish(store, claims[3])
        assert [w.running for w in await store.workers()] == [3, 0]

    async def test_a_registration_never_gets_shorter(self, store: Store) -> None:
        """A worker that waits for a claim until then also extends the leases of what it runs."""
        await beat(store, lease=2 * HOUR, worker=told())
        await beat(store, lease=60.0, worker=told(concurrency=7))
        (worker,) = await store.workers()
        assert worker.seen_until > store.now() + HOUR
        assert worker.concurrency == 7

    async def test_a_heartbeat_registers_and_extends(self, store: Store) -> None:
        """In one call; the leases of a worker that is new to the register are extended, too."""
        job = await submit(store, "f")
        claim = await take_one(store, lease=0.0)
        assert await beat(store, [held(claim)], HOUR, told()) == [job.rev]
        assert [worker.id for worker in await store.workers()] == ["w1"]
        assert (await get(store, job.id)).leases[0].until > store.now()

    async def test_a_worker_that_fell_silent_is_unhealthy(self, store: Store) -> None:
        """It is still shown for a while."""
        await beat(store, lease=0.0, worker=told("silent"))
        await beat(store, worker=told("there"))
        await store.remove([], 0.0)
        states = {worker.id: worker.at(store.now()).state for worker in await store.workers()}
        assert states == {"silent": "unhealthy", "there": "active"}

    async def test_a_worker_that_fell_silent_long_ago_is_gone(self, store: Store) -> None:
        """After a minute."""
        await beat(store, lease=-60.0, worker=told("long ago"))
        await beat(store, lease=-50.0, worker=told("lately"))
        await store.remove([], 0.0)
        assert [worker.id for worker in await store.workers()] == ["lately"]

    async def test_a_worker_that_left_is_not_known(self, store: Store) -> None:
        """To leave twice is to leave."""
        await beat(store, worker=told("w1"))
        await beat(store, worker=told("w2"))
        for _ in range(2):
            await beat(store, worker=told("w1", state="stopped"))
        assert [worker.id for worker in await store.workers()] == ["w2"]

    async def test_a_worker_that_ran_out_long_ago_is_removed(self, store: Store) -> None:
        """The register does not grow for ever."""
        await beat(store, lease=-HOUR, worker=told())
        await store.remove([], 0.0)
        assert await store.workers() == []


class TestCounts:
    """How many of everything."""

    async def test_an_empty_store_counts_nothing(self, store: Store) -> None:
        """Every state at rest is named."""
        counts = await store.counts()
        assert counts.states == dict.fromkeys(State, 0)
        assert (counts.queued, counts.leased) == ({}, 0)

    async def test_jobs_count_by_state_at_rest(self, store: Store) -> None:
        """Those being done as what they are without their lease."""
        await submit_many(store, 3, "f")
        await submit(store, "g", scheduled_at=later(store))
        ended = await submit(store, "g")
        assert await write(store, cancelled(store, await get(store, ended.id))) is None
        await done(store)
        (one, *_) = await take(store, "f")
        assert await write(store, failed(store, one)) is None
        states = {state: n for state, n in (await store.counts()).states.items() if n}
        assert states == {"pending": 2, "scheduled": 1, "cancelled": 1, "done": 1, "failed": 1}

    async def test_places_count_by_function(self, store: Store) -> None:
        """Ready and future ones; those of later stages have none yet."""
        await submit_many(store, 2, ("f", "g"), "h")
        await submit(store, "f", scheduled_at=later(store))
        assert (await store.counts()).queued == {"f": 3, "g": 2}

    async def test_leases_count(self, store: Store) -> None:
        """What is leased is not queued, until it is given back."""
        await submit_many(store, 3, "f")
        claim = await take_one(store)
        counts = await store.counts()
        assert (counts.queued, counts.leased) == ({"f": 2}, 1)
        await store.release([held(claim)])
        counts = await store.counts()
        assert (counts.queued, counts.leased) == ({"f": 3}, 0)

    async def test_jobs_count_by_the_state_that_they_are_shown_in(self, store: Store) -> None:
        """A job of which several steps are being run is being done once."""
        await submit_many(store, 2, ("f", "g"))
        await submit_many(store, 2, "h")
        await submit(store, "h", scheduled_at=later(store))
        await take(store, "f", "g", limit=4)
        await take_one(store, "h")
        await done(store)
        shown = {state: n for state, n in (await store.counts()).shown.items() if n}
        assert shown == {"scheduled": 1, "pending": 1, "doing": 3, "done": 1}

    async def test_a_job_being_done_counts_by_what_it_was(self, store: Store) -> None:
        """It may have been retrying, or waited for its date: a claim writes nothing of that."""
        again = RetryOptions(retry_limit=2, delay=0.0)
        await submit(store, "f", scheduled_at=later(store, 0.05))
        claims = await store.claim("w", ("f",), 1, HOUR, SOON)
        counts = await store.counts()
        assert (counts.doing, counts.shown[State.SCHEDULED], counts.shown[State.DOING]) == (
            {"scheduled": 1},
            0,
            1,
        )
        assert await write(store, failed(store, claims[0], again)) is None
        await take_one(store)
        assert (await store.counts()).shown[State.DOING] == 1

    async def test_counts_survive_reopening(self, store: Store) -> None:
        """They are stored, not kept in memory."""
        await submit_many(store, 3, "f")
        await done(store)
        before = await store.counts()
        await store.close()
        await store.open()
        assert await store.counts() == before
