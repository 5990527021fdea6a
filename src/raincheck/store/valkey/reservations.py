"""Idempotency keys where jobs live in several shards: a key is reserved in its own, then the job is written.

Whoever reserved may die before it writes. So who finds a key taken looks for its job; if that is not
there though there was time, he makes its id void, so that it can never be written, and takes the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from raincheck.model import Change, Key
from raincheck.store.base import Conflict, Duplicate, Outcome
from raincheck.store.valkey.courier import Courier
from raincheck.store.valkey.keys import Keys, packed, unpacked
from raincheck.store.valkey.parcels import Call

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


class Reservations:
    """The idempotency keys of one store."""

    def __init__(self, keys: Keys, courier: Courier) -> None:
        self._keys = keys
        self._courier = courier

    async def write(self, change: Change, key: Key, write: Write) -> Outcome:
        """``write`` a change whose idempotency ``key`` was not used yet."""
        taken = await self._reserve(key, packed(change.job.id))
        if taken is not None:
            return Duplicate(unpacked(taken.raw_id), bytes.fromhex(taken.fingerprint))
        outcome = await write(change)
        if isinstance(outcome, Conflict):
            name = key.name.encode()
            await self._ask("unreserve", name, lambda replay: (name, packed(change.job.id)))
        return outcome

    async def _reserve(self, key: Key, raw_id: bytes) -> Taken | None:
        """Reserve a key; or for whom it is, whose job is there."""
        instead, pause = b"", PAUSE
        while True:
            taken = await self._try(key, raw_id, instead)
            if taken is None:
                return None
            mine = taken.raw_id == raw_id
            late = taken.age > TIME_TO_WRITE and not mine
            found = await self._look(taken.raw_id, f"{taken.until:.6f}" if late else "")
            if found == 1:
                return taken
            if found == 0 or mine:
                instead = taken.raw_id
            else:  # it is just being written
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.2)

    async def _try(self, key: Key, raw_id: bytes, instead: bytes) -> Taken | None:
        name = key.name.encode()
        head = (name, raw_id, key.fingerprint.hex(), repr(key.until), instead)
        answer = await self._ask("reserve", name, lambda replay: (*head, int(replay)))
        if not answer:
            return None
        other, fingerprint, until, age = answer
        return Taken(other, fingerprint.decode(), float(until), float(age))

    async def _look(self, raw_id: bytes, until: str) -> int:
        shard = self._keys.shard_of(raw_id)
        return int(await self._courier.lane.ask(Call("void", shard.fixed, lambda replay: (raw_id, until))))

    async def _ask(self, script: str, name: bytes, words: Callable[[bool], tuple[Any, ...]]) -> Any:
        shard = self._keys.shard_of_key(name)
        return await self._courier.lane.ask(Call(script, shard.fixed, words))
