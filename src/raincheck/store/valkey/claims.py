"""Claiming from one shard, in one script call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.store.valkey import packing
from raincheck.store.valkey.connection import PATIENCE, Command
from raincheck.store.valkey.keys import Keys, ShardKeys
from raincheck.store.valkey.pipeline import Pipeline

SHARE = -1
"""How many of a function to take: the script shares out by itself."""

LATE = PATIENCE + 0.5
"""Seconds after which a claim takes nothing, for nobody waits for it any more."""

GIVE_BACK = 0.5
"""Seconds for which a claim that is cancelled waits for its reply, to give back what it brings."""


class Demand(NamedTuple):
    """What a claim asks for."""

    worker: str
    functions: tuple[str, ...]
    limit: int
    lease: float


class Found(NamedTuple):
    """What it got, and when the next place is due."""

    claims: list[Claim]
    due: float


async def claim(keys: Keys, pipeline: Pipeline, demand: Demand) -> Found:
    """What there is now, where there is one shard."""
    return await claim_from(keys, pipeline, keys.shards[0], demand, dict.fromkeys(demand.functions, SHARE))


async def claim_from(
    keys: Keys,
    pipeline: Pipeline,
    shard: ShardKeys,
    demand: Demand,
    plan: Mapping[str, int],
    patience: float = PATIENCE,
) -> Found:
    """What one shard gives: of each function so many. A call that is cancelled gives back what it got."""
    queues = [key for function in plan for key in shard.queue(function)]
    until = (
        math.inf if len(keys.shards) > 1 else pipeline.clock.now() + LATE
    )  # nodes have clocks of their own
    head = (demand.worker, demand.limit, demand.lease, len(keys.shards), shard.number, until)
    words = [*head, *(word for pair in plan.items() for word in pair)]
    command = pipeline.command("claim", shard, words, queues, patience)
    pipeline.send(command)
    try:
        reply = await asyncio.shield(command.future)
    except asyncio.CancelledError:
        if not pipeline.withdraw(command):
            returning = pipeline.spawn(_give_back(keys, pipeline, shard, command))
            await asyncio.wait([returning], timeout=GIVE_BACK)
        raise
    if not reply:
        pipeline.clock.look_again()
        return Found([], math.inf)
    if len(reply) == 1:
        return Found([], float(reply[0] or math.inf))
    return Found(packing.claims(reply, demand.worker), math.inf)


async def _give_back(keys: Keys, pipeline: Pipeline, shard: ShardKeys, command: Command) -> None:
    """Give back what a claim brings whose caller has gone."""
    with suppress(StoreError):
        reply = await command.future
        if len(reply) > 1:
            await release(keys, pipeline, shard, [word for lease in packing.held_in(reply) for word in lease])


async def release(keys: Keys, pipeline: Pipeline, shard: ShardKeys, leases: list[Any]) -> list[str]:
    """Give leases back (id, step and token of each); their functions."""
    words = (keys.bell, shard.ready, *leases)
    functions = await pipeline.send(pipeline.command("release", shard, words, [shard.nothing]))
    return [function.decode() for function in functions]
