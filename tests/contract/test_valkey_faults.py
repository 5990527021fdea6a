"""What a Valkey store does when its server fails, forgets, refuses, or is not set up for what is asked."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from raincheck.clock import monotonic
from raincheck.errors import StoreFull, StoreUnavailable, StoreUnusable
from raincheck.model import Key, Schedule, State
from raincheck.store import Store, make_store
from raincheck.store.valkey.checks import check
from tests.contract.leaks import assert_no_leaks
from tests.contract.steps import (
    HOUR,
    SOON,
    done,
    draft,
    finish,
    get,
    held,
    later,
    submission,
    submit,
    take,
    take_one,
    write,
)
from tests.servers import Server, server


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may do anything to; it syncs every write."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), appendonly="yes", appendfsync="always") as running,
    ):
        yield running


@pytest.fixture
async def on_own(own: Server) -> AsyncIterator[Store]:
    """A store there."""
    store = make_store(own.url)
    await store.open()
    yield store
    await store.close()


class TestLeaks:
    """Every key has an owner or an expiry."""

    async def test_when_all_jobs_are_gone_so_are_their_keys(
        self, url: str, store: Store, valkey: Server
    ) -> None:
        """What stays is how the namespace is set, the last token given out, and what expires by itself."""
        for turn in range(10):
            key = Key(f"k{turn}", b"", store.now())
            change = submission(store, draft("f", ("g", "h"), name=f"n{turn}", result_ttl=0.0), key)
            assert await write(store, change) is None
        for function in ("f", "g", "h"):
            for claim in await take(store, function):
                await store.report(held(claim), b"1")
                job = (await get(store, claim.job.id)).job
                await finish(store, replace(claim, job=job))
        await assert_no_leaks(store)
        while await store.prune(100, 0.0):
            pass
        await store.prune(100, 0.0)
        assert (await store.counts()).leased == 0
        namespace = url.partition("namespace=")[2].partition("&")[0]
        with valkey.client() as client:
            kept = {str(k) for k in client.scan_iter(f"{namespace}:*") if client.ttl(k) == -1}
        assert {name.rpartition(":")[2].rstrip("'") for name in kept} == {"config", "meta"}


class TestOutage:
    """The server is not there, or not what it was."""

    async def test_what_was_acknowledged_survives_a_killed_server(self, own: Server, on_own: Store) -> None:
        """With appendfsync always; whoever calls meanwhile is served when it is back."""
        jobs = [await submit(on_own, "f") for _ in range(20)]
        own.kill()
        waiting = asyncio.create_task(submit(on_own, "f"))
        await asyncio.to_thread(own.start)
        jobs.append(await waiting)
        assert [(await get(on_own, job.id)).job for job in jobs] == jobs
        assert len(await take(on_own)) == 21

    async def test_a_server_that_stays_away_is_unavailable(self, own: Server, on_own: Store) -> None:
        """Callers hear of it within seconds, and are served again when it is back."""
        own.kill()
        begun = monotonic()
        with pytest.raises(StoreUnavailable):
            await submit(on_own, "f")
        assert monotonic() - begun < SOON
        await asyncio.to_thread(own.start)
        await submit(on_own, "f")

    async def test_scripts_that_the_server_has_forgotten_are_sent_again(
        self, own: Server, on_own: Store
    ) -> None:
        """Whoever calls does not notice."""
        await submit(on_own, "f")
        with own.client() as client:
            client.script_flush()
        await finish(on_own, await take_one(on_own))

    async def test_a_waiting_claim_outlives_a_cut_connection(self, own: Server, on_own: Store) -> None:
        """It is woken all the same."""
        claiming = asyncio.create_task(on_own.claim("w", ("f",), 1, HOUR, SOON))
        await asyncio.sleep(0.1)
        with own.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
        job = await submit(on_own, "f")
        assert [claim.job.id for claim in await claiming] == [job.id]

    async def test_a_call_whose_answer_was_lost_is_not_done_twice(self, own: Server, on_own: Store) -> None:
        """The connection is cut while many calls are under way; each job is there once, and claimed once."""

        async def cut() -> None:
            with own.client() as client:
                for _ in range(30):
                    await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
                    await asyncio.sleep(0.01)

        async def work(number: int) -> int:
            finished = 0
            for turn in range(10):
                key = Key(f"{number}-{turn}", b"", later(on_own))
                assert await write(on_own, submission(on_own, draft(f"f{number}"), key)) is None
                (claim,) = await on_own.claim(f"w{number}", (f"f{number}",), 1, HOUR, SOON)
                await finish(on_own, claim)
                finished += 1
            return finished

        *finished, _ = await asyncio.gather(*(work(n) for n in range(5)), cut())
        assert finished == [10] * 5
        assert (await on_own.counts()).states[State.DONE] == 50
        await assert_no_leaks(on_own)

    async def test_a_schedule_written_without_an_answer_counts_as_written(
        self, own: Server, on_own: Store
    ) -> None:
        """The connection is cut again and again while one is changed; its writer hears that it did."""

        async def cut() -> None:
            with own.client() as client:
                for _ in range(30):
                    await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
                    await asyncio.sleep(0.01)

        cutting = asyncio.create_task(cut())
        for turn in range(5):
            schedule = Schedule("s", draft("f", id=""), id=str(turn))
            while not cutting.done() or schedule.rev < 10:
                assert await on_own.put_schedule(schedule)
                schedule = replace(schedule, rev=schedule.rev + 1, next=float(schedule.rev))
            assert await on_own.drop_schedule("s")
        assert await on_own.schedules() == []

    async def test_a_server_without_memory_is_full(self, own: Server, on_own: Store) -> None:
        """It refuses new jobs, lets leased ones end, and goes on when there is room."""
        await submit(on_own, "f")
        claim = await take_one(on_own)
        with own.client() as client:
            client.config_set("maxmemory", "1mb")
            with pytest.raises(StoreFull):
                await submit(on_own, "f")
            await finish(on_own, claim)
            client.config_set("maxmemory", "0")
        await done(on_own)


class TestAcks:
    """What an acknowledged commit has survived."""

    async def test_fsync_waits_for_the_disk(self, own: Server) -> None:
        """And says so."""
        store = make_store(f"{own.url}?ack=fsync")
        await store.open()
        await done(store)
        await store.close()

    async def test_fsync_without_a_log_is_refused(self, valkey: Server) -> None:
        """When it is opened, not when a job is lost."""
        with pytest.raises(StoreUnusable, match="appendonly"):
            await make_store(f"{valkey.url}?ack=fsync").open()

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
            server(Path(folder), replicaof=f"{host} {port}", repl_diskless_sync_delay="0"),
        ):
            store = make_store(f"{own.url}?ack=replicated")
            await store.open()
            until = monotonic() + SOON
            while True:
                try:
                    await done(store)
                    break
                except StoreUnavailable:  # it is still copying
                    assert monotonic() < until
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

    @pytest.mark.parametrize(
        "url",
        [
            "redis+cluster://h:1",
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
