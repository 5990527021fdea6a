"""Idempotency keys where jobs live in several shards: a key is reserved in its own, then the job is written.

Whoever reserved may die before it writes. So who finds a key taken looks for its job; if that is not
there though there was time, he makes its id void, so that it can never be written, and takes the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from raincheck.core.model import Change, Key
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.valkey.keys import Keys, packed, unpacked
from raincheck.store.valkey.pipeline import Pipeline

TIME_TO_WRITE = 2.0
"""Seconds between a reservation and its job, after which others may take the key."""

PAUSE = 0.005

Write = Callable[[Change], Awaitable[Outcome]]


class Taken(NamedTuple):
    """For whom a key is reserved."""

    raw_id: bytes
    fingerprint: str
    until: float
    age: float


async def write(keys: Keys, pipeline: Pipeline, change: Change, key: Key, write: Write) -> Outcome:
    """``write`` a change whose idempotency ``key`` was not used yet."""
    taken = await _reserve(keys, pipeline, key, packed(change.job.id))
    if taken is not None:
        return Duplicate(unpacked(taken.raw_id), bytes.fromhex(taken.fingerprint))
    outcome = await write(change)
    if isinstance(outcome, Conflict):
        name = key.name.encode()
        words = (name, packed(change.job.id))
        await pipeline.send(pipeline.command("unreserve", keys.shard_of_key(name), words))
    return outcome


async def _reserve(keys: Keys, pipeline: Pipeline, key: Key, raw_id: bytes) -> Taken | None:
    """Reserve a key; or for whom it is reserved, whose job is there."""
    instead, pause = b"", PAUSE
    while True:
        taken = await _try(keys, pipeline, key, raw_id, instead)
        if taken is None:
            return None
        mine = taken.raw_id == raw_id
        late = taken.age > TIME_TO_WRITE and not mine
        found = await _look(keys, pipeline, taken.raw_id, f"{taken.until:.6f}" if late else "")
        if found == 1:
            return taken
        if found == 0 or mine:
            instead = taken.raw_id
        else:  # it is just being written
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.2)


async def _try(keys: Keys, pipeline: Pipeline, key: Key, raw_id: bytes, instead: bytes) -> Taken | None:
    name = key.name.encode()
    words = (name, raw_id, key.fingerprint.hex(), repr(key.until), instead)
    answer = await pipeline.send(pipeline.command("reserve", keys.shard_of_key(name), words))
    if not answer:
        return None
    other, fingerprint, until, age = answer
    return Taken(other, fingerprint.decode(), float(until), float(age))


async def _look(keys: Keys, pipeline: Pipeline, raw_id: bytes, until: str) -> int:
    return int(await pipeline.send(pipeline.command("void", keys.shard_of(raw_id), (raw_id, until))))
