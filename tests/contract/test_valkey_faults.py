"""What a Valkey store does when its server fails, forgets, or refuses."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import redis
from msgspec.structs import replace

from raincheck.core.clock import monotonic
from raincheck.core.errors import StoreFull, StoreUnavailable
from raincheck.core.model import Job, Key, Schedule, State
from raincheck.store import Store, make_store
from raincheck.store.base import Duplicate
from tests.contract.leaks import assert_no_leaks
from tests.contract.steps import (
    HOUR,
    SOON,
    done,
    draft,
    extend,
    finish,
    get,
    later,
    removed,
    submission,
    submit,
    take,
    take_one,
    waiting,
    write,
)
from tests.servers import KINDS, Server, free_port, server


@pytest.fixture(params=KINDS)
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that a test may do anything to; it syncs every write."""
    with (
        tempfile.TemporaryDirectory(prefix="rc-") as folder,
        server(Path(folder), request.param, appendonly="yes", appendfsync="always") as running,
    ):
        yield running


@pytest.fixture
async def on_own(own: Server) -> AsyncIterator[Store]:
    """A store there."""
    store = make_store(own.url)
    await store.open()
    yield store
    await store.close()


async def until_true(what: Callable[[redis.Redis], bool], own: Server) -> None:
    """Wait until something is true of a server."""
    with own.client() as client:
        async with asyncio.timeout(SOON):
            while not what(client):  # noqa: ASYNC110 - a server sends no notification
                await asyncio.sleep(0.01)


class TestOutage:
    """The server is not there for a while."""

    async def test_what_was_acknowledged_survives_a_killed_server(self, own: Server, on_own: Store) -> None:
        """With appendfsync always; calls in between are served after its restart."""
        jobs = [await submit(on_own, "f") for _ in range(20)]
        own.kill()
        waiting = asyncio.create_task(submit(on_own, "f"))
        await asyncio.to_thread(own.start)
        jobs.append(await waiting)
        assert [(await get(on_own, job.id)).job for job in jobs] == jobs
        assert len(await take(on_own)) == 21

    async def test_a_server_killed_ten_times_loses_nothing(self, own: Server, on_own: Store) -> None:
        """While jobs are submitted and finished: each of them is there, and done once."""

        def restart() -> None:
            for _ in range(10):
                own.kill()
                own.start()

        killer = Thread(target=restart)
        finished: list[Job] = []
        killer.start()
        while killer.is_alive():
            finished.append(await done(on_own, name=f"n{len(finished)}"))
        killer.join()
        assert [(await get(on_own, job.id)).job for job in finished] == finished
        assert (await on_own.counts()).states[State.DONE] == len(finished)
        await assert_no_leaks(on_own)

    async def test_a_waiting_claim_outlives_a_killed_server(self, own: Server, on_own: Store) -> None:
        """It is woken by what another process submits afterwards."""
        async with waiting(on_own, on_own.claim("w", ("f",), 1, HOUR, SOON)) as claiming:
            own.kill()
            await asyncio.to_thread(own.start)
            other = make_store(own.url)
            await other.open()
            job = await submit(other, "f")
            assert [claim.job.id for claim in await claiming] == [job.id]
            await other.close()

    async def test_a_server_that_stays_away_is_unavailable(self, own: Server, on_own: Store) -> None:
        """Callers hear of it within seconds, and are served again when it is back."""
        own.kill()
        begun = monotonic()
        calls = (submit(on_own, "f"), take(on_own), on_own.counts(), on_own.find(["unknown"]))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert monotonic() - begun < SOON
        await asyncio.to_thread(own.start)
        await submit(on_own, "f")

    async def test_a_server_that_answers_nothing_only_delays(self, own: Server, on_own: Store) -> None:
        """For less time than a command is retried: then every call is done, once."""
        job = await submit(on_own, "f")
        claim = await take_one(on_own)
        own.freeze()
        calls = (
            asyncio.gather(submit(on_own, "g"), submit(on_own, "g")),
            finish(on_own, claim),
            extend(on_own, [], HOUR),
        )
        asking = asyncio.gather(*calls)
        done, _ = await asyncio.wait([asking], timeout=1.0)
        assert not done
        own.thaw()
        await asking
        assert (await get(on_own, job.id)).job.state is State.DONE
        assert len(await take(on_own, "g")) == 2

    async def test_a_server_that_answers_nothing_for_long_is_unavailable(
        self, own: Server, on_own: Store
    ) -> None:
        """The caller cannot know whether it was done; with the same key, he may ask again."""
        change = submission(on_own, draft("f"), Key("key", b"", later(on_own)))
        own.freeze()
        begun = monotonic()
        with pytest.raises(StoreUnavailable):
            await write(on_own, change)
        assert monotonic() - begun < SOON
        own.thaw()
        again = submission(on_own, draft("f"), Key("key", b"", later(on_own)))
        assert await write(on_own, again) in (None, Duplicate(change.job.id, b""))
        assert len(await take(on_own)) == 1

    async def test_a_waiting_claim_outlives_a_cut_connection(self, own: Server, on_own: Store) -> None:
        """It is woken all the same."""
        async with waiting(on_own, on_own.claim("w", ("f",), 1, HOUR, SOON)) as claiming:
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

    async def test_a_removal_whose_answer_was_lost_was_made(self, own: Server, on_own: Store) -> None:
        """The caller gets the answer that the job was removed."""
        jobs = [await done(on_own) for _ in range(60)]
        cutting = True

        async def cut() -> None:
            with own.client() as client:
                while cutting:
                    await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
                    await asyncio.sleep(0.005)

        async def forget() -> list[list[bool]]:
            nonlocal cutting
            forgotten = [await removed(on_own, job) for job in jobs]
            cutting = False
            return forgotten

        forgotten, _ = await asyncio.gather(forget(), cut())
        assert forgotten == [[True]] * 60

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
            assert await on_own.put_schedule(replace(schedule, removed=True))
        assert await on_own.schedules() == []


class TestRefusals:
    """The server is there, and answers with an error."""

    async def test_scripts_that_the_server_has_forgotten_are_sent_again(
        self, own: Server, on_own: Store
    ) -> None:
        """NOSCRIPT: callers get no error."""
        await submit(on_own, "f")
        with own.client() as client:
            client.script_flush()
        await finish(on_own, await take_one(on_own))

    async def test_a_server_that_is_loading_is_waited_for(self, own: Server, on_own: Store) -> None:
        """LOADING: it reads its files after a start; callers are served when it has."""
        job = await submit(on_own, "f")
        with own.client() as client:
            client.mset({f"filler {n}": "x" * 2000 for n in range(500)})
            client.bgrewriteaof()
        await until_true(is_rewritten, own)
        own.kill()
        own.settings |= {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
        starting = asyncio.create_task(asyncio.to_thread(own.start))
        await until_true(is_loading, own)
        assert (await take_one(on_own)).job == job
        await starting

    async def test_a_failover_is_waited_for(self, own: Server, on_own: Store) -> None:
        """READONLY: a primary that has become a replica changes nothing, until it is one again."""
        await submit(on_own, "f")
        with own.client() as client:
            client.replicaof("127.0.0.1", str(free_port()))
            claiming = asyncio.create_task(take_one(on_own))
            await until_true(lambda client: errors_of(client, "READONLY") > 0, own)
            client.replicaof("NO", "ONE")
        await finish(on_own, await claiming)
        await assert_no_leaks(on_own)

    async def test_a_server_without_memory_is_full(self, own: Server, on_own: Store) -> None:
        """OOM: it refuses new jobs, lets leased ones end, and goes on when there is room."""
        await submit(on_own, "f")
        claim = await take_one(on_own)
        with own.client() as client:
            client.config_set("maxmemory", "1mb")
            with pytest.raises(StoreFull):
                await submit(on_own, "f")
            await finish(on_own, claim)
            client.config_set("maxmemory", "0")
        await done(on_own)
        await assert_no_leaks(on_own)

    async def test_a_server_that_cannot_save_is_full(self, own: Server, on_own: Store) -> None:
        """MISCONF: it takes nothing as long as its snapshots fail, and goes on when they do not."""
        await submit(on_own, "f")
        claim = await take_one(on_own)
        snapshot = own.folder / "dump.rdb"
        snapshot.mkdir()  # no file can take its name
        with own.client() as client:
            client.config_set("save", "3600 1000000")
            client.bgsave()
            await until_true(lambda client: saves(client) == "err", own)
            for refused in (submit(on_own, "f"), finish(on_own, claim)):
                with pytest.raises(StoreFull, match="disk"):
                    await refused
            snapshot.rmdir()
            client.bgsave()
            await until_true(lambda client: saves(client) == "ok", own)
        await finish(on_own, claim)
        await assert_no_leaks(on_own)


def is_rewritten(client: redis.Redis) -> bool:
    """Whether the log has been rewritten."""
    info = client.info("persistence")
    return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def is_loading(client: redis.Redis) -> bool:
    """Whether the server says that it is loading."""
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.exceptions.ConnectionError:  # it is not there yet
        return False
    raise AssertionError("it was never seen loading")


def errors_of(client: redis.Redis, word: str) -> int:
    """How often the server has answered with an error that begins with this word."""
    counted: dict[str, int] = client.info("errorstats").get(f"errorstat_{word}", {"count": 0})
    return counted["count"]


def saves(client: redis.Redis) -> str:
    """How the last snapshot ended: ok or err; empty while one is being made."""
    info = client.info("persistence")
    return "" if info["rdb_bgsave_in_progress"] else str(info["rdb_last_bgsave_status"])
