"""Listing and counting, over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from raincheck.errors import Fault, InvalidInput
from raincheck.model import State, Stored
from raincheck.store.base import Counts, Filter, Missing, Page
from raincheck.store.valkey.keys import STATES, Keys, ShardKeys, packed, unpacked

EXAMINE = 1000
"""How many jobs one page looks at."""

READ = 100
"""How many of them are read together, at least."""

Find = Callable[[Sequence[str]], Awaitable[list[Stored | Missing]]]
Send = Callable[..., Awaitable[Any]]


async def page(send: Send, keys: Keys, find: Find, which: Filter, limit: int, cursor: str | None) -> Page:
    """One page: candidates of every shard from the best index, newest first, then the rest of the filter."""
    before = None if cursor is None else _raw(cursor)
    lists = await asyncio.gather(*(_candidates(send, shard, which, before) for shard in keys.shards))
    everything = sorted((raw for found in lists for raw in found), reverse=True)
    candidates = everything[:EXAMINE]
    more = len(everything) > EXAMINE
    jobs: list[Stored] = []
    size = limit if which == Filter() else max(limit, READ)
    for at in range(0, len(candidates), size):
        chunk = candidates[at : at + size]
        for raw, found in zip(chunk, await find([unpacked(raw) for raw in chunk]), strict=True):
            if isinstance(found, Stored) and _matches(found, which):
                jobs.append(found)
                if len(jobs) == limit:
                    last = raw == candidates[-1] and not more
                    return Page(tuple(jobs), None if last else unpacked(raw))
    return Page(tuple(jobs), unpacked(candidates[-1]) if more else None)


async def _candidates(send: Send, shard: ShardKeys, which: Filter, before: bytes | None) -> list[bytes]:
    """The newest ids that may match, one more than are looked at."""
    if which.state is State.DOING:
        leased, gathering = await asyncio.gather(
            send("HKEYS", shard.leases), send("ZRANGE", shard.state(which.state), 0, -1)
        )
        doing = {*leased, *gathering}
        return sorted((raw for raw in doing if before is None or raw < before), reverse=True)[: EXAMINE + 1]
    newest = "+" if before is None else b"(" + before
    found: list[bytes] = await send(
        "ZRANGE", _index(shard, which), newest, "-", "BYLEX", "REV", "LIMIT", 0, EXAMINE + 1
    )
    return found


def _index(shard: ShardKeys, which: Filter) -> str:
    if which.name is not None:
        return shard.index("name", which.name)
    if which.group is not None:
        return shard.index("group", which.group)
    if which.function is not None:
        return shard.index("function", which.function)
    return shard.all if which.state is None else shard.state(which.state)


def _matches(found: Stored, which: Filter) -> bool:
    job = found.job
    if which.name not in (None, job.name):
        return False
    if which.group not in (None, job.group):
        return False
    if which.function is not None and all(step.function != which.function for step in job.steps):
        return False
    shown = State.DOING if found.leases and not job.state.ended else job.state
    return which.state in (None, shown)


def _raw(cursor: str) -> bytes:
    try:
        return packed(cursor)
    except ValueError:
        raise InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor")) from None


def total(answers: Sequence[list[Any]]) -> Counts:
    """What ``counts.lua`` says of all shards, added up."""
    states, doing = dict.fromkeys(STATES, 0), dict.fromkeys(STATES, 0)
    queued: dict[str, int] = {}
    leased = 0
    for leases, *words in answers:
        leased += leases
        for state, size in zip(STATES, words, strict=False):
            states[state] += size
        for state, size in zip(STATES, words[len(STATES) :], strict=False):
            doing[state] += size
        places = words[2 * len(STATES) :]
        for name, size in zip(places[::2], places[1::2], strict=True):
            queued[name.decode()] = queued.get(name.decode(), 0) + int(size)
    return Counts(states, queued, leased, {state: jobs for state, jobs in doing.items() if jobs})
