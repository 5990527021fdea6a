"""What a Valkey store asks of its server and of its URL, and says when it is opened."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raincheck.core.clock import monotonic
from raincheck.core.errors import StoreUnavailable, StoreUnusable
from raincheck.core.model import Key
from raincheck.store import make_store
from raincheck.store.base import Duplicate
from raincheck.store.valkey.address import check_settings
from tests.clusters import follows, until
from tests.contract.steps import SOON, done, draft, later, submission, submit, write
from tests.servers import KINDS, Server, server


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
        """The caller gets an error that the job may be lost; the log warns at the start."""
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
            ({"aof_enabled": 1}, "appendfsync cannot be seen"),
            ({"aof_enabled": 1, "appendfsync": "everysec"}, "the last second"),
            ({"aof_enabled": 1, "appendfsync": "no"}, "half a minute"),
            ({"aof_enabled": 1, "maxmemory_policy": "allkeys-lru"}, "deletes jobs"),
        ],
    )
    def test_a_setting_that_can_lose_jobs_is_warned_of(self, info: dict[str, object], word: str) -> None:
        """In words that say what it means."""
        assert any(
            word in warning for warning in check_settings({"valkey_version": "8.0.0", **info}, "local")
        )

    @pytest.mark.parametrize(
        ("info", "ack", "word"),
        [
            ({"redis_version": "6.2.1"}, "local", "redis 6.2.1: raincheck needs 7.0"),
            ({"redis_version": "7.0.15", "aof_enabled": 1}, "fsync", "redis 7.0.15: ack=fsync needs 7.2"),
            ({"valkey_version": "9.0", "aof_enabled": 1, "appendfsync": "no"}, "fsync", "appendfsync"),
            ({"valkey_version": "9.0", "cluster_enabled": 1}, "local", "cluster"),
        ],
    )
    def test_a_server_that_will_not_do_is_refused(self, info: dict[str, object], ack: str, word: str) -> None:
        """When it is opened."""
        with pytest.raises(StoreUnusable, match=word):
            check_settings(info, ack)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"appendonly": "no"}, ["appendonly is no"]),
            ({"appendonly": "yes", "appendfsync": "everysec"}, ["appendfsync is everysec"]),
            ({"appendonly": "yes", "appendfsync": "always"}, []),
            (
                {"appendonly": "yes", "appendfsync": "always", "maxmemory_policy": "allkeys-lfu"},
                ["maxmemory-policy is allkeys-lfu"],
            ),
        ],
    )
    async def test_what_a_server_is_set_to_is_said_when_it_is_opened(
        self,
        tmp_path: Path,
        kind: str,
        settings: dict[str, str],
        said: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Nothing, if it loses nothing."""
        with server(tmp_path, kind, **settings) as own:
            store = make_store(own.url)
            await store.open()
            await store.close()
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == said

    async def test_who_may_not_ask_for_settings_is_told_so(
        self, own: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And the store opens."""
        with own.client() as client:
            client.acl_setuser(
                "app", enabled=True, passwords="+right", keys="*", channels="*", commands=["+@all", "-config"]
            )
        store = make_store(own.url.replace("redis://", "redis://app:right@"))
        await store.open()
        await done(store)
        await store.close()
        assert "appendfsync cannot be seen" in caplog.text

    @pytest.mark.skipif("redis" not in KINDS, reason="said at the end of the run")
    async def test_an_old_redis_cannot_wait_for_the_disk(self, tmp_path: Path) -> None:
        """It is refused when it is opened, with what would do."""
        with server(tmp_path, "redis", appendonly="yes") as own:
            store = make_store(f"{own.url}?ack=fsync")
            with pytest.raises(StoreUnusable, match=r"ack=fsync needs 7\.2"):
                await store.open()

    @pytest.mark.parametrize(
        "url",
        [
            "redis+other://h:1",
            "redis://h?ack=all",
            "redis://h?shards=0",
            "redis://h?shards=x",
            "redis://h?namespace={a}",
            "redis+sentinel://h:26379",
            "redis://h?no_such_option=1",
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
