"""What the connection of an event loop carries: which commands go together, and what ends with the loop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import uvloop

from raincheck.core.clock import monotonic
from raincheck.core.errors import StoreUnavailable
from raincheck.core.model import Stored
from raincheck.store import Store, make_store
from tests.clusters import Cluster, cluster
from tests.contract.leaks import assert_no_leaks
from tests.contract.steps import HOUR, SOON, draft, finish, submission, submit, take, write
from tests.servers import Server, server

BIG = b'"' + b"x" * (1 << 20) + b'"'


@pytest.fixture
def own() -> Iterator[Server]:
    """A server for this test only."""
    with tempfile.TemporaryDirectory(prefix="rc-") as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture
async def store(own: Server) -> AsyncIterator[Store]:
    """A store there; nothing must have leaked when the test is over."""
    store = make_store(own.url)
    await store.open()
    yield store
    await assert_no_leaks(store)
    await store.close()


def calls_of_scripts(own: Server) -> int:
    """The number of script calls on the server."""
    with own.client() as client:
        stats: dict[str, dict[str, int]] = client.info("commandstats")
        return stats.get("cmdstat_evalsha", {"calls": 0})["calls"]


def connections(own: Server) -> int:
    """How many connections the server has."""
    with own.client() as client:
        clients: int = client.info("clients")["connected_clients"]
        return clients


class TestBatches:
    """Which changes go to the server in one call."""

    async def test_commits_of_one_turn_go_together(self, own: Server, store: Store) -> None:
        """However many callers they are of."""
        await submit(store, "f")
        before = calls_of_scripts(own)
        changes = [submission(store, draft()) for _ in range(400)]
        assert await asyncio.gather(*(write(store, change) for change in changes)) == [None] * 400
        assert calls_of_scripts(own) - before <= 4

    async def test_a_call_has_no_more_bytes_than_the_server_can_bear(self, own: Server, store: Store) -> None:
        """Large changes go in several calls: the server does nothing else during one."""
        await submit(store, "f")
        before = calls_of_scripts(own)
        changes = [submission(store, draft(data=b'{"a":' + BIG + b"}")) for _ in range(10)]
        assert await store.commit(changes) == [None] * 10
        assert calls_of_scripts(own) - before == 4


class TestSilence:
    """A server that answers late."""

    async def test_commits_that_were_given_up_hinder_no_others(self, own: Server) -> None:
        """Their replies come after the callers got an error; the store goes on, and closes at once."""
        store = make_store(f"{own.url}?socket_timeout=30")
        await store.open()
        await submit(store, "f")
        own.freeze()
        changes = [submission(store, draft()) for _ in range(3)]
        outcomes = await asyncio.gather(*(write(store, each) for each in changes), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        own.thaw()
        await submit(store, "f")
        found = await store.find([change.job.id for change in changes])
        assert all(isinstance(each, Stored) for each in found)
        begun = monotonic()
        await store.close()
        assert monotonic() - begun < 2.0


class TestClaims:
    """A claim whose caller is gone."""

    async def test_a_claim_that_a_hanging_server_gets_to_late_takes_nothing(
        self, own: Server, store: Store
    ) -> None:
        """It was in a socket until its caller had an error; its lease would have no owner."""
        job = await submit(store, "g")
        own.freeze()
        with pytest.raises(StoreUnavailable):
            await take(store, "g", worker="given up")
        await asyncio.sleep(0.5)  # for the store's clock, which decides: nothing else tells of it
        own.thaw()
        (claim,) = await store.claim("w", ("g",), 1, HOUR, SOON)
        assert (claim.job.id, claim.lease.worker) == (job.id, "w")
        await finish(store, claim)


class TestLoops:
    """Connections belong to event loops."""

    @pytest.mark.parametrize(
        "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    async def test_a_loop_that_ends_closes_its_connection(
        self, own: Server, store: Store, loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """And a job that was submitted there is there."""
        before = connections(own)

        def run() -> None:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(submit(store, "f"))
                assert connections(own) == before + 1

        thread = Thread(target=run)
        thread.start()
        await asyncio.to_thread(thread.join)
        async with asyncio.timeout(SOON):
            while await asyncio.to_thread(connections, own) != before:
                pass
        assert len(await take(store)) == 1

    async def test_closing_ends_the_connections_of_all_loops(self, own: Server) -> None:
        """Also of those that go on."""
        store = make_store(own.url)
        await store.open()
        go_on, used = asyncio.Event(), asyncio.Event()
        here = asyncio.get_running_loop()

        async def work() -> None:
            await submit(store, "f")
            here.call_soon_threadsafe(used.set)
            while not go_on.is_set():  # noqa: ASYNC110 - an event of another loop
                await asyncio.sleep(0.01)

        thread = Thread(target=lambda: asyncio.run(work()))
        thread.start()
        await used.wait()
        await store.close()
        assert await asyncio.to_thread(connections, own) == 1  # this look itself
        go_on.set()
        await asyncio.to_thread(thread.join)


class TestHangingNode:
    """A node of a cluster that keeps its connections and answers nothing."""

    @pytest.fixture
    def nodes(self) -> Iterator[Cluster]:
        """A cluster that goes on with what its nodes have."""
        with cluster(cluster_require_full_coverage="no") as running:
            yield running

    async def test_it_harms_only_its_own_shards(self, nodes: Cluster) -> None:
        """Jobs of the others are submitted, claimed and finished as if nothing was."""
        store = make_store(f"{nodes.url}?shards=3")
        await store.open()
        changes = [submission(store, draft()) for _ in range(60)]
        assert await store.commit(changes) == [None] * 60
        nodes.primaries[1].freeze()
        try:
            claims = await store.claim("w", ("f",), 100, HOUR)
            assert 0 < len(claims) < 60
            begun = monotonic()
            for claim in claims:
                await finish(store, claim)
            assert await store.claim("w", ("f",), 100, HOUR) == []
            assert monotonic() - begun < 1.0
        finally:
            nodes.primaries[1].thaw()
        assert len(await store.claim("w", ("f",), 100, HOUR, SOON)) == 60 - len(claims)
        await store.close()
