"""Claims from several shards: first read the queues of all shards, then claim from each of them its part."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.store.base import NO_LIMITS, ClaimRequest
from raincheck.store.valkey.claims import Claimed, claim_from, release
from raincheck.store.valkey.connection import RETRY_FOR
from raincheck.store.valkey.keys import packed
from raincheck.store.valkey.pipeline import Pipeline, successes

PRIORITY_BYTES = 8
"""The bytes of a member that are its priority."""

CLAIM_RETRY_FOR = 1.0
"""Seconds for which a claim from one shard is retried: the leases from the other shards are running."""


async def claim(pipeline: Pipeline, request: ClaimRequest) -> Claimed:
    """Claim from all shards that can be reached, without waiting. Raises only if none can be reached."""
    heads = await _peek(pipeline, request)
    next_due = min((head.next_due for head in heads), default=math.inf)
    calls = [
        asyncio.create_task(
            claim_from(pipeline, pipeline.keys.shards[number], request, shares, CLAIM_RETRY_FOR)
        )
        for number, shares in allot(heads, request.limit, request.limits).items()
    ]
    return Claimed(await _gather(pipeline, calls), next_due)


async def _gather(pipeline: Pipeline, calls: list[asyncio.Task[Claimed]]) -> list[Claim]:
    """The claims of the calls that did not fail. A cancelled call gives all of them back."""
    try:
        await asyncio.gather(*calls, return_exceptions=True)
    except asyncio.CancelledError:
        pipeline.spawn(_give_back(pipeline, calls))
        raise
    claims = [claim for call in calls if _succeeded(call) for claim in call.result().claims]
    errors = [error for call in calls if isinstance(error := call.exception(), StoreError)]
    if errors and not claims:
        raise errors[0]
    return sorted(claims, key=_queue_order)


async def _give_back(pipeline: Pipeline, calls: list[asyncio.Task[Claimed]]) -> None:
    """Give back the claims of a cancelled caller; a cancelled call gives back its own."""
    await asyncio.gather(*calls, return_exceptions=True)
    for claim in (claim for call in calls if _succeeded(call) for claim in call.result().claims):
        raw_id = packed(claim.job.id)
        with suppress(StoreError):
            lease = [raw_id, claim.lease.step, claim.lease.token]
            await release(pipeline, pipeline.keys.shard_of(raw_id), lease)


async def _peek(pipeline: Pipeline, request: ClaimRequest) -> list[Head]:
    """The heads of all queues in the shards that can be reached. Raises if none can be reached."""
    replies = await _peek_all(pipeline, request, 0.0)
    if all(isinstance(reply, StoreError) for reply in replies):
        replies = await _peek_all(pipeline, request, RETRY_FOR)
    successes(replies)
    return [
        Head(function, float(row[0]), float(row[1] or math.inf), shard.number, row[2:])
        for shard, rows in zip(pipeline.keys.shards, replies, strict=True)
        if not isinstance(rows, BaseException)
        for function, row in zip(request.functions, rows, strict=True)
    ]


async def _peek_all(pipeline: Pipeline, request: ClaimRequest, retry_for: float) -> list[Any]:
    calls = []
    for shard in pipeline.keys.shards:
        queues = [key for function in request.functions for key in shard.queue(function)]
        words = (request.limit, *request.functions)
        calls.append(pipeline.call("peek", shard, *words, keys=queues, retry_for=retry_for))
    return await asyncio.gather(*calls, return_exceptions=True)


class Head(NamedTuple):
    """The first entries of the queue of a function in a shard; their members sort in the order of claims."""

    function: str
    served: float
    next_due: float
    shard: int
    members: list[bytes]


def allot(
    heads: Sequence[Head], limit: int, limits: Mapping[str, int] = NO_LIMITS
) -> dict[int, dict[str, int]]:
    """The number of entries to take, by shard and function, as ``claim.lua`` takes them of one shard."""
    functions = {head.function for head in heads if head.members}
    served = {f: max(head.served for head in heads if head.function == f) for f in functions}
    order = sorted(functions, key=lambda f: (served[f], f))
    most = {f: min(limit, limits.get(f, limit)) for f in order}
    queues = {f: _merge([head for head in heads if head.function == f], most[f]) for f in order}
    shares: dict[int, Counter[str]] = {}
    left = limit
    while left > 0 and (firsts := [queue[0].priority for queue in queues.values() if queue]):
        priority = min(firsts)
        waiting = [f for f in order if _has(queues[f], priority)]
        while waiting and left > 0:
            share = -(-left // len(waiting))
            for function in waiting:
                for _ in range(min(share, left)):
                    if not _has(queues[function], priority):
                        break
                    shares.setdefault(queues[function].popleft().shard, Counter())[function] += 1
                    left -= 1
            waiting = [f for f in waiting if _has(queues[f], priority)]
    return {shard: dict(counter) for shard, counter in shares.items()}


class Entry(NamedTuple):
    """An entry of a queue; a lower ``priority`` (the first bytes of its member) is claimed first."""

    priority: bytes
    shard: int


def _merge(heads: list[Head], limit: int) -> deque[Entry]:
    """The first entries of some heads, in the order of claims."""
    queues = [[(member, head.shard) for member in head.members] for head in heads]
    return deque(Entry(member[:PRIORITY_BYTES], shard) for member, shard in islice(merge(*queues), limit))


def _has(queue: deque[Entry], priority: bytes) -> bool:
    return bool(queue) and queue[0].priority == priority


def _queue_order(claim: Claim) -> tuple[int, float, str, int]:
    return -claim.job.priority, claim.step.due, claim.job.id, claim.lease.step


def _succeeded(call: asyncio.Task[Claimed]) -> bool:
    return not call.cancelled() and call.exception() is None
