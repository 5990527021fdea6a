"""Listing and counting, over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from raincheck.errors import Fault, InvalidInput
from raincheck.model import State, Stored
from raincheck.store.base import Counts, Filter, Missing, Page
from raincheck.store.valkey.keys import STATES, Keys, ShardKeys, packed, tag, unpacked

EXAMINE = 1000
"""How many jobs one page looks at."""

LOOKS = 5000
"""How many it looks at by their tags, in each shard and state."""

READ = 100
"""How many of them are read together, at least."""

Find = Callable[[Sequence[str]], Awaitable[list[Stored | Missing]]]
Send = Callable[..., Awaitable[Any]]
Ask = Callable[..., Awaitable[Any]]


async def page(
    send: Send, ask: Ask, keys: Keys, find: Find, which: Filter, limit: int, cursor: str | None
) -> Page:
    """One page: what every shard has of the state and tags looked for, newest first, read."""
    before = b"" if cursor is None else _raw(cursor)
    looks = (
        _being_done(send, ask, shard, which, before)
        if which.state is State.DOING
        else _scan(ask, shard, which, before)
        for shard in keys.shards
    )
    looked = await asyncio.gather(*looks)
    ended = max((each.ended for each in looked), default=b"")
    found = sorted((raw for each in looked for raw in each.found if raw >= ended), reverse=True)
    candidates = found[:EXAMINE]
    if len(found) > EXAMINE:
        ended = candidates[-1]
    jobs: list[Stored] = []
    size = limit if which == Filter() else max(limit, READ)
    for at in range(0, len(candidates), size):
        chunk = candidates[at : at + size]
        for raw, stored in zip(chunk, await find([unpacked(raw) for raw in chunk]), strict=True):
            if isinstance(stored, Stored) and _matches(stored, which):
                jobs.append(stored)
                if len(jobs) == limit:
                    last = raw == candidates[-1] and not ended
                    return Page(tuple(jobs), None if last else unpacked(raw))
    return Page(tuple(jobs), unpacked(ended) if ended else None)


class Looked(NamedTuple):
    """The ids found in a shard, and where the look ended; empty: at the oldest."""

    found: list[bytes]
    ended: bytes


async def _being_done(send: Send, ask: Ask, shard: ShardKeys, which: Filter, before: bytes) -> Looked:
    """What has a lease, and what is so at rest: the runs of groups."""
    resting, leased = await asyncio.gather(
        _scan(ask, shard, which, before), send("HKEYS", shard.leases, key=shard.leases)
    )
    found = {raw for raw in leased if (not before or raw < before) and raw >= resting.ended}
    return Looked([*found.union(resting.found)], resting.ended)


async def _scan(ask: Ask, shard: ShardKeys, which: Filter, before: bytes) -> Looked:
    wanted = [tag("name", which.name)] if which.name is not None else []
    wanted += [tag("function", which.function)] if which.function is not None else []
    wanted += [tag("group", which.group)] if which.group is not None else []
    states = range(len(STATES)) if which.state is None else (STATES.index(which.state),)
    looks = LOOKS if wanted else EXAMINE
    answers = await ask("scan", shard, before, looks, len(wanted), *wanted, *states)
    ended = max(answer[0] for answer in answers)
    return Looked([raw for answer in answers for raw in answer[1:] if raw >= ended], ended)


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
