"""What a store keeps once all its jobs are forgotten: nothing that has neither an owner nor an end."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote

import apsw
import redis
from msgspec.structs import replace

from raincheck.store import Store, is_in_memory
from tests.contract.leaks import all_jobs
from tests.contract.steps import beat, removed

FOR_GOOD = {"config", "meta"}
"""Keys of a namespace that stay: how it is set, and the last token given out."""

WITH_AN_END = {"gone": "gone", "idempotency": "idempotency-until", "idempotency-until": "idempotency-until"}
"""Keys of a namespace that run out by and by, and where it is kept when each of their fields does."""


async def assert_nothing_left(store: Store, url: str) -> None:
    """Forget every job, all of which have ended, and all else that was put; look for what stays behind."""
    ended = await all_jobs(store)
    assert await removed(store, *(stored.job for stored in ended), remember=0.0) == [True] * len(ended)
    for worker in await store.workers():
        await beat(store, worker=replace(worker, state="stopped"))
    for schedule in await store.schedules():
        assert await store.put_schedule(replace(schedule, rev=schedule.rev + 1, removed=True))
    await store.remove([], 0.0)
    kept = rows_in(url) if url.startswith("sqlite:") else keys_in(url)
    assert kept == set()


def rows_in(url: str) -> set[str]:
    """The tables of a database that are not empty and should be; of tallies, those that count anything."""
    path = url.removeprefix("sqlite:///")
    name = f"file:/{quote(path)}?vfs=memdb" if is_in_memory(url) else path
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with apsw.Connection(name, flags=flags) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables
        }
        counts["tally"] = connection.execute("SELECT count(*) FROM tally WHERE jobs").fetchall()[0][0]
    connection.close()
    return {table for table, count in counts.items() if count} - {"meta", "gone", "idempotency"}


def keys_in(url: str) -> set[str]:
    """The keys of a namespace that stay for good and should not."""
    namespace = url.partition("namespace=")[2].partition("&")[0]
    client = client_of(url.partition("?")[0].partition(",")[0])
    kept = [key.decode() for key in client.scan_iter(f"{namespace}:*", count=1000) if client.ttl(key) == -1]
    return {key for key in kept if key.rpartition(":")[2] not in FOR_GOOD and not ends(client, key)}


@cache  # a client of a cluster asks first what commands there are
def client_of(where: str) -> Any:
    """A client that sees all servers of a store."""
    if "+cluster" in where:
        return redis.RedisCluster.from_url(where.replace("+cluster", ""))
    return redis.Redis.from_url(where)


def ends(client: Any, key: str) -> bool:
    """Whether everything in a key has its time, after which it goes."""
    prefix, _, name = key.rpartition(":")
    if name not in WITH_AN_END:
        return False
    timed = set(client.zrange(f"{prefix}:{WITH_AN_END[name]}", 0, -1))
    fields = client.hkeys(key) if client.type(key) == b"hash" else client.zrange(key, 0, -1)
    return timed == set(fields)
