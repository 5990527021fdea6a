"""Listing and counting jobs over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from raincheck.core.model import State, Stored
from raincheck.store.base import Candidates, Counts, Filter, Missing
from raincheck.store.valkey.keys import STATES, ShardKeys, packed, tag, unpacked
from raincheck.store.valkey.packing import read_stored
from raincheck.store.valkey.pipeline import Pipeline

MAX_SCANNED = 5000
"""Jobs whose tags a page compares, per shard and state."""


async def find(pipeline: Pipeline, job_ids: Sequence[str]) -> list[Stored | Missing]:
    """The jobs with these ids, in their order."""
    replies = await pipeline.call_by_job("find", job_ids, lambda _, raw_id: (raw_id,))
    return [read_stored(reply) if isinstance(reply, list) else Missing(gone=bool(reply)) for reply in replies]


async def page(pipeline: Pipeline, which: Filter, limit: int, after: str | None) -> Candidates:
    """The newest jobs of all shards that have the state and the tags of a filter."""
    before = b"" if after is None else packed(after)
    scan = _scan_doing if which.state is State.DOING else _scan
    scans = await asyncio.gather(
        *(scan(pipeline, shard, which, before, limit) for shard in pipeline.keys.shards)
    )
    end = max((each.end for each in scans), default=b"")
    found = sorted((raw_id for each in scans for raw_id in each.found if raw_id >= end), reverse=True)
    if len(found) > limit:
        end = found[limit - 1]
    ids = [unpacked(raw_id) for raw_id in found[:limit]]
    pairs = zip(ids, await find(pipeline, ids), strict=True)
    present = [(job_id, stored) for job_id, stored in pairs if isinstance(stored, Stored)]
    return Candidates(
        tuple(stored for _, stored in present),
        tuple(job_id for job_id, _ in present),
        unpacked(end) if end else None,
    )


class Scanned(NamedTuple):
    """The ids found in a shard, and where the scan ended (empty: at the oldest job)."""

    found: list[bytes]
    end: bytes


async def _scan_doing(
    pipeline: Pipeline, shard: ShardKeys, which: Filter, before: bytes, limit: int
) -> Scanned:
    """The jobs with a lease, and the jobs whose state at rest is doing: group runs."""
    resting, leased = await asyncio.gather(
        _scan(pipeline, shard, which, before, limit),
        pipeline.send_plain("HKEYS", shard.leases, key=shard.leases),
    )
    found = {raw_id for raw_id in leased if (not before or raw_id < before) and raw_id >= resting.end}
    return Scanned([*found.union(resting.found)], resting.end)


async def _scan(pipeline: Pipeline, shard: ShardKeys, which: Filter, before: bytes, limit: int) -> Scanned:
    criteria = (("name", which.name), ("function", which.function), ("group", which.group))
    wanted = [tag(kind, value) for kind, value in criteria if value is not None]
    states = range(len(STATES)) if which.state is None else (STATES.index(which.state),)
    scanned = MAX_SCANNED if wanted else limit + 1
    replies = await pipeline.call("scan", shard, before, scanned, len(wanted), *wanted, *states)
    end = max(reply[0] for reply in replies)
    return Scanned([raw_id for reply in replies for raw_id in reply[1:] if raw_id >= end], end)


def add_counts(replies: Sequence[list[Any]]) -> Counts:
    """The sum of the replies of ``counts.lua`` of all shards."""
    states, doing = dict.fromkeys(STATES, 0), dict.fromkeys(STATES, 0)
    queued: dict[str, int] = {}
    leased = 0
    for leases, *words in replies:
        leased += leases
        for state, count in zip(STATES, words, strict=False):
            states[state] += count
        for state, count in zip(STATES, words[len(STATES) :], strict=False):
            doing[state] += count
        by_function = words[2 * len(STATES) :]
        for name, count in zip(by_function[::2], by_function[1::2], strict=True):
            queued[name.decode()] = queued.get(name.decode(), 0) + int(count)
    return Counts(states, queued, leased, {state: jobs for state, jobs in doing.items() if jobs})
