"""Idempotency keys with several shards: reserve the key in its own shard, then write the job.

The caller that reserved a key can die before it writes the job. So a caller that finds a key taken looks for
its job. If the job is not there in time, the caller voids its id, so that it can never be written, and takes
the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from raincheck.core.model import Change, Key
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.valkey.keys import packed, unpacked
from raincheck.store.valkey.pipeline import Pipeline

TIME_TO_WRITE = 2.0
"""Seconds between a reservation and its job. Later, other callers can take the key."""

FIRST_DELAY, MAX_DELAY = 0.005, 0.2
"""Seconds between two looks for a job that is being written."""

PRESENT, VOID = 1, 0
"""Replies of ``void.lua``: the job is or was there; it can never be written."""


class Reservation(NamedTuple):
    """The job for which a key is reserved, and for how long it has been."""

    raw_id: bytes
    fingerprint: str
    until: float
    age: float


async def write(
    pipeline: Pipeline, change: Change, key: Key, write: Callable[[Change], Awaitable[Outcome]]
) -> Outcome:
    """``write`` a change if its idempotency ``key`` is free."""
    raw_id = packed(change.job.id)
    other = await _reserve(pipeline, key, raw_id)
    if other is not None:
        return Duplicate(unpacked(other.raw_id), bytes.fromhex(other.fingerprint))
    outcome = await write(change)
    if isinstance(outcome, Conflict):
        name = key.name.encode()
        await pipeline.call("unreserve", pipeline.keys.shard_of_key(name), name, raw_id)
    return outcome


async def _reserve(pipeline: Pipeline, key: Key, raw_id: bytes) -> Reservation | None:
    """Reserve a key. Returns the reservation of another job that is there, if there is one."""
    void_id, delay = b"", FIRST_DELAY
    while True:
        other = await _try_to_reserve(pipeline, key, raw_id, void_id)
        if other is None:
            return None
        is_own = other.raw_id == raw_id
        is_late = other.age > TIME_TO_WRITE and not is_own
        void_until = f"{other.until:.6f}" if is_late else ""
        shard = pipeline.keys.shard_of(other.raw_id)
        status = int(await pipeline.call("void", shard, other.raw_id, void_until))
        if status == PRESENT:
            return other
        if status == VOID or is_own:
            void_id = other.raw_id
        else:  # it is being written
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)


async def _try_to_reserve(pipeline: Pipeline, key: Key, raw_id: bytes, void_id: bytes) -> Reservation | None:
    name = key.name.encode()
    words = (name, raw_id, key.fingerprint.hex(), repr(key.until), void_id)
    reply = await pipeline.call("reserve", pipeline.keys.shard_of_key(name), *words)
    if not reply:
        return None
    other_id, fingerprint, until, age = reply
    return Reservation(other_id, fingerprint.decode(), float(until), float(age))
