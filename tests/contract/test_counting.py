"""What every store knows of workers and numbers: register, unregister, workers, counts."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.model import FunctionInfo, RetryOptions, State, WorkerInfo
from raincheck.store.base import Store
from tests.contract.steps import (
    HOUR,
    SOON,
    cancelled,
    done,
    failed,
    get,
    held,
    later,
    submit,
    submit_many,
    take,
    take_one,
    write,
)


def info(worker_id: str = "w1", **fields: object) -> WorkerInfo:
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
        running=2,
        state="active",
    )
    return replace(worker, **fields)


class TestWorkers:
    """The register of workers."""

    async def test_a_worker_is_known_as_it_registered(self, store: Store) -> None:
        """With when it was seen, and until when it counts as there."""
        before = store.now()
        await store.register(info(), 60.0)
        (worker,) = await store.workers()
        assert before <= worker.seen_at <= store.now()
        assert worker.seen_until == worker.seen_at + 60.0
        assert replace(worker, seen_at=0.0, seen_until=0.0) == info()

    async def test_a_worker_that_registers_again_is_there_once(self, store: Store) -> None:
        """As it said last."""
        await store.register(info(), 60.0)
        await store.register(info(running=7, state="stopping"), 60.0)
        assert [(w.running, w.state) for w in await store.workers()] == [(7, "stopping")]

    async def test_a_worker_that_fell_silent_is_unhealthy(self, store: Store) -> None:
        """It is still shown for a while."""
        await store.register(info("silent"), 0.0)
        await store.register(info("there"), HOUR)
        await store.prune(10, 0.0)
        assert {w.id: w.state for w in await store.workers()} == {"silent": "unhealthy", "there": "active"}

    async def test_a_worker_that_fell_silent_long_ago_is_gone(self, store: Store) -> None:
        """After a minute."""
        await store.register(info("long ago"), -60.0)
        await store.register(info("lately"), -50.0)
        await store.prune(10, 0.0)
        assert [worker.id for worker in await store.workers()] == ["lately"]

    async def test_a_worker_that_left_is_not_known(self, store: Store) -> None:
        """To leave twice is to leave."""
        await store.register(info("w1"), HOUR)
        await store.register(info("w2"), HOUR)
        await store.unregister("w1")
        await store.unregister("w1")
        assert [worker.id for worker in await store.workers()] == ["w2"]

    async def test_a_worker_that_ran_out_long_ago_is_removed(self, store: Store) -> None:
        """The register does not grow for ever."""
        await store.register(info(), -HOUR)
        await store.prune(10, 0.0)
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
