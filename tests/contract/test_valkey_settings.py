"""What a Valkey store asks of its server and of its URL, and says when it is opened."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raincheck.clock import monotonic
from raincheck.errors import StoreUnavailable, StoreUnusable
from raincheck.model import Key
from raincheck.store import make_store
from raincheck.store.base import Duplicate
from raincheck.store.valkey.checks import check
from tests.clusters import follows, until
from tests.contract.steps import SOON, done, draft, later, submission, submit, write
from tests.servers import Server, server


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may do anything to; it syncs every write."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), appendonly="yes", appendfsync="always", repl_diskless_sync_delay="0") as running,
    ):
        yield running


class TestAcks:
    """What an acknowledged commit has survived."""

    async def test_fsync_waits_for_the_disk(self, own: Server) -> None:
        """And says so."""
        store = make_store(f"{own.url}?ack=fsync")
        await store.open()
        await done(store)
        await store.close()

    async def test_fsync_without_a_log_is_refused(self, servers: Callable[[str], Server]) -> None:
        """When it is opened, not when a job is lost."""
        with pytest.raises(StoreUnusable, match="appendonly"):
            await make_store(f"{servers('valkey').url}?ack=fsync").open()

    async def test_replicated_without_a_replica_is_not_acknowledged(
        self, own: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The caller is told that the job may be lost; the log says why from the beginning."""
        store = make_store(f"{own.url}?ack=replicated")
        await store.open()
        assert "no replica is connected" in caplog.text
        with pytest.raises(StoreUnavailable, match="ack=replicated"):
            await submit(store, "f")
        await store.close()

    async def test_replicated_waits_for_a_replica(self, own: Server) -> None:
        """One is enough."""
        host, port = "127.0.0.1", str(own.port)
        with (
            tempfile.TemporaryDirectory(prefix="rc-") as folder,
            server(Path(folder), replicaof=f"{host} {port}"),
        ):
            store = make_store(f"{own.url}?ack=replicated")
            await store.open()
            end = monotonic() + SOON
            while True:
                try:
                    await done(store)
                    break
                except StoreUnavailable:  # it is still copying
                    assert monotonic() < end
            await store.close()

    async def test_what_was_not_replicated_is_not_acknowledged_later_either(self, own: Server) -> None:
        """Asked for again over another connection, it is there, but still on one server only."""
        with (
            tempfile.TemporaryDirectory(prefix="rc-") as folder,
            server(Path(folder), replicaof=f"127.0.0.1 {own.port}", repl_diskless_sync_delay="0") as replica,
        ):
            await asyncio.to_thread(until, lambda: follows(replica))
            store = make_store(f"{own.url}?ack=replicated")
            await store.open()
            await submit(store, "f")
            replica.freeze()
            change = submission(store, draft(), Key("k", b"", later(store)))
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="ack=replicated"):
                    await write(store, change)
                with own.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
            replica.thaw()
            assert await write(store, change) == Duplicate(change.job.id, b"")
            await store.close()


class TestSettings:
    """What is looked at when a store is opened."""

    @pytest.mark.parametrize(
        ("info", "word"),
        [
            ({"aof_enabled": 0}, "appendonly is no"),
            ({"aof_enabled": 1}, "ack=local"),
            ({"aof_enabled": 1, "maxmemory_policy": "allkeys-lru"}, "deletes jobs"),
        ],
    )
    def test_a_setting_that_can_lose_jobs_is_warned_of(self, info: dict[str, object], word: str) -> None:
        """In words that say what it means."""
        assert any(word in warning for warning in check({"valkey_version": "8.0.0", **info}, "local"))

    @pytest.mark.parametrize(
        "info", [{"redis_version": "6.2.1"}, {"valkey_version": "9.0", "cluster_enabled": 1}]
    )
    def test_a_server_that_will_not_do_is_refused(self, info: dict[str, object]) -> None:
        """When it is opened."""
        with pytest.raises(StoreUnusable):
            check(info, "local")

    async def test_a_server_that_lets_nobody_in_says_so(self, own: Server) -> None:
        """And the password that was tried is not told to anybody."""
        with own.client() as client:
            client.config_set("requirepass", "right")
        with pytest.raises(StoreUnavailable, match="let us in") as refused:
            await make_store(own.url.replace("redis://", "redis://:wrong@")).open()
        assert "wrong" not in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis+other://h:1",
            "redis://h?ack=all",
            "redis://h?shards=0",
            "redis://h?shards=x",
            "redis://h?namespace={a}",
            "redis+sentinel://h:26379",
        ],
    )
    async def test_a_url_that_means_nothing_is_refused(self, url: str) -> None:
        """With what would."""
        with pytest.raises(StoreUnusable):
            await make_store(url).open()

    async def test_a_namespace_keeps_its_shards(self, new_url: Callable[[], str]) -> None:
        """Jobs are where they were put, so another number would not find them."""
        url = new_url()
        store = make_store(url)
        await store.open()
        await store.close()
        with pytest.raises(StoreUnusable, match="shards"):
            await make_store(url.replace("shards=", "shards=1")).open()
