"""Claims from one shard, in one script call; and leases that are given back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.store.base import ClaimRequest
from raincheck.store.valkey.connection import RETRY_FOR, Command
from raincheck.store.valkey.keys import ShardKeys
from raincheck.store.valkey.packing import read_claims, read_held
from raincheck.store.valkey.pipeline import Pipeline

EXPIRES_AFTER = RETRY_FOR + 0.5
"""Seconds after which a claim takes nothing, because no caller waits for it."""

GIVE_BACK_TIMEOUT = 0.5
"""Seconds for which a cancelled claim waits for its reply, to give back what it got."""


class Claimed(NamedTuple):
    """The claims, and when the next queue entry is due."""

    claims: list[Claim]
    next_due: float


async def claim(pipeline: Pipeline, request: ClaimRequest) -> Claimed:
    """Claim from the only shard, without waiting."""
    most = {f: request.limits.get(f, request.limit) for f in request.functions}
    return await claim_from(pipeline, pipeline.keys.shards[0], request, most)


async def claim_from(
    pipeline: Pipeline,
    shard: ShardKeys,
    request: ClaimRequest,
    most: Mapping[str, int],
    retry_for: float = RETRY_FOR,
) -> Claimed:
    """Claim from one shard; ``most`` is the most to take of each function.

    A cancelled call gives back what it got.
    """
    shards = len(pipeline.keys.shards)
    queues = [key for function in most for key in shard.queue(function)]
    # several nodes have several clocks: no time limit there
    expires_at = math.inf if shards > 1 else pipeline.clock.now() + EXPIRES_AFTER
    head = (request.worker, request.limit, request.lease, shards, shard.number, expires_at)
    words = [*head, *(word for pair in most.items() for word in pair)]
    command = pipeline.command("claim", shard, words, queues, retry_for)
    pipeline.send(command)
    try:
        reply = await asyncio.shield(command.future)
    except asyncio.CancelledError:
        if not pipeline.withdraw(command):
            returning = pipeline.spawn(_give_back(pipeline, shard, command))
            await asyncio.wait([returning], timeout=GIVE_BACK_TIMEOUT)
        raise
    if not reply:  # it expired: our clock may be wrong
        pipeline.clock.sync_soon()
        return Claimed([], math.inf)
    if len(reply) == 1:
        return Claimed([], float(reply[0] or math.inf))
    return Claimed(read_claims(reply, request.worker), math.inf)


async def _give_back(pipeline: Pipeline, shard: ShardKeys, command: Command) -> None:
    """Give back what a claim gets after its caller was cancelled."""
    with suppress(StoreError):
        reply = await command.future
        if len(reply) > 1:
            await release(pipeline, shard, read_held(reply))


async def release(pipeline: Pipeline, shard: ShardKeys, leases: list[Any]) -> list[str]:
    """Give back leases (id, step and token of each). Returns their functions."""
    words = (pipeline.keys.channel, shard.ready, *leases)
    functions = await pipeline.call("release", shard, *words, keys=[shard.absent])
    return [function.decode() for function in functions]
