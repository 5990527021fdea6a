"""Listing and counting, over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from raincheck.core.model import State, Stored
from raincheck.store.base import Candidates, Counts, Filter, Missing
from raincheck.store.valkey.keys import STATES, Keys, ShardKeys, packed, tag, unpacked

LOOKS = 5000
"""How many jobs a page looks at by their tags, in each shard and state."""

Find = Callable[[Sequence[str]], Awaitable[list[Stored | Missing]]]
Send = Callable[..., Awaitable[Any]]
Ask = Callable[..., Awaitable[Any]]


async def page(
    send: Send, ask: Ask, keys: Keys, find: Find, which: Filter, limit: int, after: str | None
) -> Candidates:
    """The newest jobs that every shard has of the state and tags looked for."""
    before = b"" if after is None else packed(after)
    looks = (
        _being_done(send, ask, shard, which, before, limit)
        if which.state is State.DOING
        else _scan(ask, shard, which, before, limit)
        for shard in keys.shards
    )
    looked = await asyncio.gather(*looks)
    ended = max((each.ended for each in looked), default=b"")
    found = sorted((raw for each in looked for raw in each.found if raw >= ended), reverse=True)
    if len(found) > limit:
        ended = found[limit - 1]
    ids = [unpacked(raw) for raw in found[:limit]]
    pairs = zip(ids, await find(ids), strict=True)
    present = [(job_id, stored) for job_id, stored in pairs if isinstance(stored, Stored)]
    return Candidates(
        tuple(stored for _, stored in present),
        tuple(job_id for job_id, _ in present),
        unpacked(ended) if ended else None,
    )


class Looked(NamedTuple):
    """The ids found in a shard, and where the look ended; empty: at the oldest."""

    found: list[bytes]
    ended: bytes


async def _being_done(
    send: Send, ask: Ask, shard: ShardKeys, which: Filter, before: bytes, limit: int
) -> Looked:
    """What has a lease, and what is so at rest: the runs of groups."""
    resting, leased = await asyncio.gather(
        _scan(ask, shard, which, before, limit), send("HKEYS", shard.leases, key=shard.leases)
    )
    found = {raw for raw in leased if (not before or raw < before) and raw >= resting.ended}
    return Looked([*found.union(resting.found)], resting.ended)


async def _scan(ask: Ask, shard: ShardKeys, which: Filter, before: bytes, limit: int) -> Looked:
    wanted = [tag("name", which.name)] if which.name is not None else []
    wanted += [tag("function", which.function)] if which.function is not None else []
    wanted += [tag("group", which.group)] if which.group is not None else []
    states = range(len(STATES)) if which.state is None else (STATES.index(which.state),)
    looks = LOOKS if wanted else limit + 1
    answers = await ask("scan", shard, before, looks, len(wanted), *wanted, *states)
    ended = max(answer[0] for answer in answers)
    return Looked([raw for answer in answers for raw in answer[1:] if raw >= ended], ended)


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
