"""Listing and counting jobs over all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from raincheck.core.model import State, Stored
from raincheck.store.base import Candidates, Counts, Filter, Missing
from raincheck.store.valkey.keys import STATES, ShardKeys, packed, tag, unpacked
from raincheck.store.valkey.packing import read_stored
from raincheck.store.valkey.pipeline import Pipeline

MAX_SCANNED = 5000
"""Jobs whose tags a page compares, per shard and state."""


LATE = 3600.0
"""Seconds by which jobs may have been created after the time in their ids: firings of schedules are late."""


async def find(pipeline: Pipeline, job_ids: Sequence[str]) -> list[Stored | Missing]:
    """The jobs with these ids, in their order."""
    replies = await pipeline.call_by_job("find", job_ids, lambda _, raw_id: (raw_id,))
    return [read_stored(reply) if isinstance(reply, list) else Missing(gone=bool(reply)) for reply in replies]


async def page(pipeline: Pipeline, which: Filter, limit: int, after: str | None) -> Candidates:
    """The first jobs of all shards that have the state and the tags of a filter."""
    ids_between = _range(which, after)
    scans = await asyncio.gather(
        *(_scan(pipeline, shard, which, ids_between, limit) for shard in pipeline.keys.shards)
    )
    end = _first_end([each.end for each in scans], which)
    found = sorted(
        (raw_id for each in scans for raw_id in each.found if _is_before(raw_id, end, which)),
        reverse=not which.oldest_first,
    )
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


class _Range(NamedTuple):
    """The ids from ``first`` to before ``last``, packed; an empty one is no limit."""

    first: bytes
    last: bytes

    def __contains__(self, raw_id: object) -> bool:
        return isinstance(raw_id, bytes) and self.first <= raw_id and (not self.last or raw_id < self.last)


class _Scanned(NamedTuple):
    """The ids found in a shard, and where the scan ended (empty: at the last job)."""

    found: set[bytes]
    end: bytes


def _range(which: Filter, after: str | None) -> _Range:
    first = b"" if which.since is None else _id_at(which.since - LATE)
    last = b"" if which.until is None else _id_at(which.until + LATE)
    if after is None:
        return _Range(first, last)
    position = packed(after)
    if not which.oldest_first:
        return _Range(first, position)
    following = int.from_bytes(position) + 1  # no id has 128 bits that are all 1
    return _Range(following.to_bytes(16), last)


def _id_at(moment: float) -> bytes:
    """The smallest id of a time: a UUIDv7 begins with its milliseconds."""
    ms = min(max(round(moment * 1000), 0), 2**48 - 1)
    return ms.to_bytes(6) + bytes(10)


def _first_end(ends: Iterable[bytes], which: Filter) -> bytes:
    """Where the first of several scans ended: up to there, all of them found every job."""
    return (min if which.oldest_first else max)(filter(None, ends), default=b"")


def _is_before(raw_id: bytes, end: bytes, which: Filter) -> bool:
    """Whether a job is not after the end of a scan."""
    return not end or (raw_id <= end if which.oldest_first else raw_id >= end)


async def _scan(
    pipeline: Pipeline, shard: ShardKeys, which: Filter, ids_between: _Range, limit: int
) -> _Scanned:
    """The jobs whose state at rest is in the filter; if that has doing, the jobs with a lease too."""
    criteria = (("name", which.name), ("function", which.function), ("group", which.group))
    wanted = [tag(kind, value) for kind, value in criteria if value is not None]
    first = b"[" + ids_between.first if ids_between.first else b"-"
    last = b"(" + ids_between.last if ids_between.last else b"+"
    scanned = MAX_SCANNED if wanted else limit + 1
    head = (first, last, "" if which.oldest_first else "REV", scanned, len(wanted), *wanted)
    calls = [pipeline.call("scan", shard, *head, *map(STATES.index, which.states or STATES))]
    if State.DOING in which.states:
        calls.append(pipeline.send_plain("HKEYS", shard.leases, key=shard.leases))
    replies, *leased = await asyncio.gather(*calls)
    end = _first_end((reply[0] for reply in replies), which)
    found = {raw_id for reply in replies for raw_id in reply[1:]}
    found.update(raw_id for ids in leased for raw_id in ids if raw_id in ids_between)
    return _Scanned({raw_id for raw_id in found if _is_before(raw_id, end, which)}, end)


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
