"""What a Valkey store does when a cluster moves its slots, or loses a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from msgspec.structs import replace

from raincheck.core.clock import monotonic, new_id
from raincheck.core.errors import StoreUnavailable, StoreUnusable
from raincheck.core.model import Change, Key, State
from raincheck.store import Store, make_store
from raincheck.store.base import Conflict, Due, Missing, Outcome
from raincheck.store.valkey import ValkeyStore
from raincheck.store.valkey.keys import Keys, packed
from tests.clusters import Cluster, Member, cluster, say, slot_of, until
from tests.contract.leaks import assert_no_leaks
from tests.contract.steps import HOUR, SOON, draft, finish, get, later, look, settle, submission, take, write
from tests.servers import Server

SHARDS = 6
KEYS = Keys("raincheck", SHARDS)
HOMES = [shard.fixed[0] for shard in KEYS.shards]
"""A key of each shard."""


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster that a test may do anything to; it syncs every write."""
    with cluster(appendonly="yes", appendfsync="always", cluster_require_full_coverage="no") as running:
        yield running


@pytest.fixture
async def store(nodes: Cluster) -> AsyncIterator[Store]:
    """A store there."""
    store = make_store(f"{nodes.url}?shards={SHARDS}")
    await store.open()
    yield store
    await store.close()


def shard_of(job_id: str) -> int:
    """The number of a job's shard."""
    return KEYS.shard_of(packed(job_id)).number


def draft_in(shard: int, function: str = "f") -> Change:
    """A draft whose job lives in this shard."""
    while True:
        job = draft(function)
        if shard_of(job.id) == shard:
            return Change(job=job)


async def work(store: Store, number: int, turns: int) -> None:
    """Submit, claim and finish, with an idempotency key each time."""
    for turn in range(turns):
        key = Key(f"{number}-{turn}", b"", later(store))
        assert await write(store, submission(store, draft(f"f{number}"), key)) is None
        (claim,) = await store.claim(f"w{number}", (f"f{number}",), 1, HOUR, SOON)
        await finish(store, claim)


def move(slot: int, source: Member, target: Member) -> None:
    """Move a slot at once, as Valkey 9 does it, and wait until both know."""
    say(source, "CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
    until(lambda: target.has(slot) and not source.has(slot))


class TestMovedSlots:
    """Jobs stay reachable wherever the cluster puts them."""

    async def test_jobs_go_on_while_slots_move(self, nodes: Cluster, store: Store) -> None:
        """Every slot in use goes to another node, one after the other; callers get no error."""

        async def reshard() -> None:
            for home in HOMES:
                source = nodes.owner(home)
                target = nodes.primaries[nodes.primaries.index(source) - 1]
                await asyncio.to_thread(move, slot_of(home), source, target)

        *_, _ = await asyncio.gather(*(work(store, number, 30) for number in range(4)), reshard())
        assert (await store.counts()).states[State.DONE] == 120
        await assert_no_leaks(store)

    async def test_a_slot_half_moved_lets_its_callers_wait(self, nodes: Cluster, store: Store) -> None:
        """The old way moves key by key; calls are sent on meanwhile, and answered when it is over."""
        home = HOMES[2]
        slot, source = slot_of(home), nodes.owner(home)
        target = nodes.primaries[nodes.primaries.index(source) - 1]
        first = submission(store, draft_in(2).job)
        assert await write(store, first) is None
        say(target, "CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        say(source, "CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        keys = say(source, "CLUSTER GETKEYSINSLOT", slot, 100)
        for key in keys[: len(keys) // 2]:
            source.send_key(key, target)
        second = submission(store, draft_in(2).job)
        writing = asyncio.create_task(write(store, second))  # TRYAGAIN: some keys are here, some there
        reading = asyncio.create_task(get(store, first.job.id))
        await settle(store)
        assert not writing.done()
        for key in keys[len(keys) // 2 :]:
            source.send_key(key, target)
        await settle(store)  # ASK: none are here
        assert not writing.done()
        assert not reading.done()
        for member in (target, source):
            say(member, "CLUSTER SETSLOT", slot, "NODE", target.id)
        assert await writing is None
        assert (await reading).job == first.job
        assert len(await take(store)) == 2


class TestNodes:
    """A node that is not there."""

    async def test_a_dead_node_keeps_no_other_waiting(self, nodes: Cluster, store: Store) -> None:
        """Jobs of the others go on at once; its own wait for it, and what was acknowledged is there again."""
        victim = nodes.owner(HOMES[2])
        dead = [n for n, home in enumerate(HOMES) if nodes.owner(home) is victim]
        alive = [n for n in range(SHARDS) if n not in dead]
        changes = [submission(store, draft_in(n).job) for n in range(SHARDS)]
        assert await store.commit(changes) == [None] * SHARDS
        victim.kill()
        with pytest.raises(StoreUnavailable):
            await write(store, submission(store, draft_in(dead[0]).job))
        begun = monotonic()
        claims = await store.claim("w", ("f",), 100, HOUR, SOON)
        assert sorted(shard_of(claim.job.id) for claim in claims) == alive
        for claim in claims:
            await finish(store, claim)
        assert await store.due(10) == Due([], [], [], [])
        assert monotonic() - begun < 3.0  # the store is patient for 4 s
        waiting = asyncio.create_task(store.claim("w", ("f",), 100, HOUR, SOON))
        await asyncio.to_thread(victim.start)
        assert sorted(shard_of(claim.job.id) for claim in await waiting) == dead
        assert [(await get(store, change.job.id)).job.id for change in changes] == [c.job.id for c in changes]

    async def test_what_a_stopped_cluster_says_is_said_in_time(self, nodes: Cluster, store: Store) -> None:
        """When no node is there, callers hear of it within seconds, and are served again later."""
        nodes.kill()
        begun = monotonic()
        with pytest.raises(StoreUnavailable):
            await store.claim("w", ("f",), 1, HOUR)
        assert monotonic() - begun < SOON
        for member in nodes.members:
            await asyncio.to_thread(member.start)
        claiming = asyncio.create_task(store.claim("w", ("f",), 1, HOUR, SOON))
        while True:
            try:
                assert await write(store, submission(store, draft())) is None
                break
            except StoreUnavailable:
                assert monotonic() - begun < 2 * SOON
        assert len(await claiming) == 1


class TestReservations:
    """An idempotency key and its job may live in different shards."""

    async def test_a_reservation_that_came_to_nothing_is_taken_over(
        self, nodes: Cluster, store: Store
    ) -> None:
        """Its job is never written after that, however late it comes; the key leads to the other one."""
        assert isinstance(store, ValkeyStore)
        key = Key("k", b"", later(store))
        late, quick = submission(store, draft(), key), submission(store, draft(), key)
        go_on, reserved = asyncio.Event(), asyncio.Event()

        async def stalled(change: Change) -> Outcome:
            reserved.set()
            await go_on.wait()
            (outcome,) = await store.commit([replace(change, key=None)])
            return outcome

        writing = asyncio.create_task(store.commit_once(late, key, stalled))
        await reserved.wait()
        assert await write(store, quick) is None
        go_on.set()
        assert await writing == Conflict()
        assert await look(store, late.job.id) == Missing(gone=False)
        third = await write(store, submission(store, draft(), key))
        assert third is not None
        assert third.job_id == quick.job.id  # type: ignore[union-attr]
        await assert_no_leaks(store)


class TestURLs:
    """A URL that is of another kind than its servers."""

    async def test_a_plain_url_of_a_node_is_refused(self, nodes: Cluster) -> None:
        """With the one that works."""
        with pytest.raises(StoreUnusable, match=r"redis\+cluster://"):
            await make_store(nodes.primaries[0].url).open()

    async def test_a_cluster_url_of_a_plain_server_is_refused(self, servers: Callable[[str], Server]) -> None:
        """With the one that works."""
        with pytest.raises(StoreUnusable, match="redis://"):
            await make_store(f"redis+cluster://127.0.0.1:{servers('valkey').port}").open()

    async def test_one_reachable_node_is_enough(self, nodes: Cluster) -> None:
        """The others are found."""
        url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{nodes.primaries[2].port}?namespace={new_id()}"
        store = make_store(url)
        await store.open()
        changes = [submission(store, draft()) for _ in range(50)]
        assert await store.commit(changes) == [None] * 50
        assert len(await take(store)) == 50
        await store.close()
