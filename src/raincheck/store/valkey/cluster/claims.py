"""Claims from several shards: first read the queues of all shards, then claim from each of them its part."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.store.valkey.claims import Claimed, ClaimRequest, claim_from, release
from raincheck.store.valkey.connection import RETRY_FOR
from raincheck.store.valkey.keys import packed
from raincheck.store.valkey.pipeline import Pipeline, successes

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
        for number, shares in allot(heads, request.limit).items()
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


def allot(heads: Sequence[Head], limit: int) -> dict[int, dict[str, int]]:
    """The number of entries to take, by shard and function: the same shares that ``claim.lua`` computes."""
    functions = {head.function for head in heads if head.members}
    served = {f: max(head.served for head in heads if head.function == f) for f in functions}
    queues = {f: _merge([head for head in heads if head.function == f]) for f in functions}
    waiting = sorted(functions, key=lambda f: (served[f], f))
    shares: dict[int, Counter[str]] = {}
    left = limit
    while waiting and left > 0:
        share, still = -(-left // len(waiting)), []
        for function in waiting:
            room = min(share, left)
            taken = list(islice(queues[function], room))
            left -= len(taken)
            for shard in taken:
                shares.setdefault(shard, Counter())[function] += 1
            if len(taken) == room:
                still.append(function)
        waiting = still
    return {shard: dict(counter) for shard, counter in shares.items()}


def _merge(heads: list[Head]) -> Iterator[int]:
    """The shards of all members of some heads, in the order of claims."""
    queues = [[(member, head.shard) for member in head.members] for head in heads]
    return (shard for _, shard in merge(*queues))


def _queue_order(claim: Claim) -> tuple[int, float, str, int]:
    return -claim.job.priority, claim.step.due, claim.job.id, claim.lease.step


def _succeeded(call: asyncio.Task[Claimed]) -> bool:
    return not call.cancelled() and call.exception() is None
