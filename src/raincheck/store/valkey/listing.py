"""Listing and counting, over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from raincheck.errors import Fault, InvalidInput
from raincheck.model import State, Stored
from raincheck.store.base import Counts, Filter, Missing, Page
from raincheck.store.valkey.courier import translate
from raincheck.store.valkey.keys import STATES, Keys, ShardKeys, packed, unpacked

EXAMINE = 1000
"""How many jobs one page looks at."""

Find = Callable[[Sequence[str]], Awaitable[list[Stored | Missing]]]


async def page(client: Any, keys: Keys, find: Find, which: Filter, limit: int, cursor: str | None) -> Page:
    """One page: candidates of every shard from the best index, newest first, then the rest of the filter."""
    before = None if cursor is None else _raw(cursor)
    lists = await asyncio.gather(*(_candidates(client, shard, which, before) for shard in keys.shards))
    candidates = sorted((raw for found in lists for raw in found), reverse=True)[:EXAMINE]
    more = any(len(found) == EXAMINE for found in lists) or sum(map(len, lists)) > EXAMINE
    jobs: list[Stored] = []
    for at in range(0, len(candidates), limit):
        chunk = candidates[at : at + limit]
        for raw, found in zip(chunk, await find([unpacked(raw) for raw in chunk]), strict=True):
            if isinstance(found, Stored) and _matches(found, which):
                jobs.append(found)
                if len(jobs) == limit:
                    last = raw == candidates[-1] and not more
                    return Page(tuple(jobs), None if last else unpacked(raw))
    return Page(tuple(jobs), unpacked(candidates[-1]) if more and candidates else None)


async def _candidates(client: Any, shard: ShardKeys, which: Filter, before: bytes | None) -> list[bytes]:
    try:
        if which.state is State.DOING:
            leased = await client.hkeys(shard.fixed[1])
            return sorted((raw for raw in leased if before is None or raw < before), reverse=True)[:EXAMINE]
        highest = "+" if before is None else b"(" + before
        found: list[bytes] = await client.zrange(
            _index(shard, which), highest, "-", desc=True, bylex=True, offset=0, num=EXAMINE
        )
    except Exception as error:
        raise translate(error) from error
    return found


def _index(shard: ShardKeys, which: Filter) -> str:
    if which.name is not None:
        return shard.index("name", which.name)
    if which.function is not None:
        return shard.index("function", which.function)
    return shard.fixed[4] if which.state is None else shard.state(which.state)


def _matches(found: Stored, which: Filter) -> bool:
    job = found.job
    if which.name is not None and job.name != which.name:
        return False
    if which.function is not None and all(step.function != which.function for step in job.steps):
        return False
    shown = State.DOING if found.leases and not job.state.ended else job.state
    return which.state is None or shown is which.state


def _raw(cursor: str) -> bytes:
    try:
        return packed(cursor)
    except ValueError:
        raise InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor")) from None


async def counts(client: Any, keys: Keys) -> Counts:
    """Sizes of what is kept, which the server knows."""
    states = dict.fromkeys(STATES, 0)
    queued: dict[str, int] = {}
    leased = 0
    try:
        for shard in keys.shards:
            async with client.pipeline(transaction=False) as pipeline:
                for state in STATES:
                    pipeline.zcard(shard.state(state))
                pipeline.hgetall(shard.fixed[11])
                pipeline.zcard(shard.fixed[2])
                *sizes, functions, leases = await pipeline.execute()
            for state, size in zip(STATES, sizes, strict=True):
                states[state] += size
            for name, size in functions.items():
                queued[name.decode()] = queued.get(name.decode(), 0) + int(size)
            leased += leases
    except Exception as error:
        raise translate(error) from error
    return Counts(states, queued, leased)
