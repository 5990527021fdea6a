"""Claiming from several shards: a look at the queues of all, then from each of them its part."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.store.valkey.claims import Demand, Found, claim_from, release
from raincheck.store.valkey.connection import PATIENCE
from raincheck.store.valkey.keys import Keys, packed
from raincheck.store.valkey.pipeline import Pipeline
from raincheck.store.valkey.replies import sift

CLAIM_PATIENCE = 1.0
"""Seconds for which a shard is asked for its part, while what others gave waits with its leases."""


async def claim(keys: Keys, pipeline: Pipeline, demand: Demand) -> Found:
    """What there is now. Shards that cannot be reached are left out, unless none can."""
    heads = await _peek(keys, pipeline, demand)
    due = min((head.due for head in heads), default=math.inf)
    asked = [
        asyncio.create_task(claim_from(keys, pipeline, keys.shards[n], demand, plan, CLAIM_PATIENCE))
        for n, plan in allot(heads, demand.limit).items()
    ]
    return Found(await _gather(keys, pipeline, asked), due)


async def _gather(keys: Keys, pipeline: Pipeline, asked: list[asyncio.Task[Found]]) -> list[Claim]:
    """What the shards gave, or those that did not fail. A call that is cancelled gives all of it back."""
    try:
        await asyncio.gather(*asked, return_exceptions=True)
    except asyncio.CancelledError:
        pipeline.spawn(_give_back(keys, pipeline, asked))
        raise
    claims = [claim for task in asked if _succeeded(task) for claim in task.result().claims]
    errors = [error for task in asked if isinstance(error := task.exception(), StoreError)]
    if errors and not claims:
        raise errors[0]
    return sorted(claims, key=_turn)


async def _give_back(keys: Keys, pipeline: Pipeline, asked: list[asyncio.Task[Found]]) -> None:
    """Give back what was claimed for a caller who has gone; what was cancelled gives back by itself."""
    await asyncio.gather(*asked, return_exceptions=True)
    for claim in (claim for task in asked if _succeeded(task) for claim in task.result().claims):
        raw = packed(claim.job.id)
        with suppress(StoreError):
            await release(keys, pipeline, keys.shard_of(raw), [raw, claim.lease.step, claim.lease.token])


async def _peek(keys: Keys, pipeline: Pipeline, demand: Demand) -> list[Head]:
    """The heads of all queues; those of shards that cannot be reached are left out, unless none can."""
    answers = await _peek_at_all(keys, pipeline, demand, 0.0)
    if all(isinstance(answer, StoreError) for answer in answers):
        answers = await _peek_at_all(keys, pipeline, demand, PATIENCE)
    sift(answers)
    return [
        Head(function, float(row[0]), float(row[1] or math.inf), shard.number, row[2:])
        for shard, rows in zip(keys.shards, answers, strict=True)
        if not isinstance(rows, BaseException)
        for function, row in zip(demand.functions, rows, strict=True)
    ]


async def _peek_at_all(keys: Keys, pipeline: Pipeline, demand: Demand, patience: float) -> list[Any]:
    words = (demand.limit, *demand.functions)
    looks = []
    for shard in keys.shards:
        queues = [key for function in demand.functions for key in shard.queue(function)]
        looks.append(pipeline.send(pipeline.command("peek", shard, words, queues, patience)))
    return await asyncio.gather(*looks, return_exceptions=True)


class Head(NamedTuple):
    """The head of the queue of a function in a shard; its members sort as they are to be claimed."""

    function: str
    served: float
    due: float
    shard: int
    members: list[bytes]


def allot(heads: Sequence[Head], limit: int) -> dict[int, dict[str, int]]:
    """How many to take of which function in which shard: shares as ``claim.lua`` gives them in one shard."""
    functions = {head.function for head in heads if head.members}
    served = {f: max(head.served for head in heads if head.function == f) for f in functions}
    lines = {f: _line([head for head in heads if head.function == f]) for f in functions}
    waiting = sorted(functions, key=lambda f: (served[f], f))
    plans: dict[int, Counter[str]] = {}
    left = limit
    while waiting and left > 0:
        share, still = -(-left // len(waiting)), []
        for function in waiting:
            room = min(share, left)
            taken = list(islice(lines[function], room))
            left -= len(taken)
            for shard in taken:
                plans.setdefault(shard, Counter())[function] += 1
            if len(taken) == room:
                still.append(function)
        waiting = still
    return {shard: dict(plan) for shard, plan in plans.items()}


def _line(heads: list[Head]) -> Any:
    """The shards of the members of all heads, as their turns come."""
    lines = [[(member, head.shard) for member in head.members] for head in heads]
    return (shard for _, shard in merge(*lines))


def _turn(claim: Claim) -> tuple[int, float, str, int]:
    return -claim.job.priority, claim.step.due, claim.job.id, claim.lease.step


def _succeeded(task: asyncio.Task[Found]) -> bool:
    return not task.cancelled() and task.exception() is None
