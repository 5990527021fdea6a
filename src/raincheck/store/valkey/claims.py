"""Claiming: from one shard in one trip; from several by a look at all, then from each its part."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from raincheck import clock
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.model import Claim
from raincheck.store.valkey import wire
from raincheck.store.valkey.courier import Courier
from raincheck.store.valkey.keys import Keys, ShardKeys, packed
from raincheck.store.valkey.parcels import PATIENCE, Call

SHARE = -1
"""How many of a function to take: the script shares out by itself."""


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


class Claims:
    """Claims of one store."""

    def __init__(self, keys: Keys, courier: Courier) -> None:
        self._keys = keys
        self._courier = courier

    async def once(self, demand: Demand) -> Found:
        """What there is now."""
        if len(self._keys.shards) == 1:
            plan = dict.fromkeys(demand.functions, SHARE)
            return await self._from(self._keys.shards[0], demand, plan)
        heads = await self._peek(demand)
        plans = allot(heads, demand.limit)
        due = min((head.due for head in heads), default=math.inf)
        asked = [
            asyncio.create_task(self._from(self._keys.shards[n], demand, plan)) for n, plan in plans.items()
        ]
        return Found(await self._gather(asked), due)

    async def _from(self, shard: ShardKeys, demand: Demand, plan: dict[str, int]) -> Found:
        """What one shard gives: of each function so many."""
        keys = [*shard.fixed, shard.claimed(demand.worker)]
        keys += [key for function in plan for key in shard.queue(function)]
        head = (
            demand.worker,
            demand.limit,
            demand.lease,
            len(self._keys.shards),
            shard.number,
            clock.new_id(),
        )
        rooms = [word for pair in plan.items() for word in pair]
        call = Call(
            "claim",
            keys,
            lambda replay: (*head, int(replay), *rooms),
            given_up=lambda answer: self._give_back(shard, answer),
        )
        answer = await self._courier.lane.ask(call)
        if len(answer) == 1:
            return Found([], float(answer[0] or math.inf))
        return Found(wire.claims(answer, demand.worker), math.inf)

    def _give_back(self, shard: ShardKeys, answer: list[Any]) -> None:
        """Nobody waits for these any more. May be called from any thread."""
        if len(answer) > 1:
            self.release(shard, [word for lease in wire.held_in(answer) for word in lease])

    def release(self, shard: ShardKeys, words: list[Any]) -> None:
        """Give leases back without waiting for it."""
        with suppress(StoreUnavailable):
            bell = self._keys.bell
            keys = [*shard.fixed, shard.nothing]
            self._courier.lane.put(
                Call("release", keys, lambda replay: (bell, shard.ready, *words), threaded=True)
            )

    async def _gather(self, asked: list[asyncio.Task[Found]]) -> list[Claim]:
        """What the shards gave; if some failed, what the others gave. Given up, all of it goes back."""
        try:
            await asyncio.gather(*asked, return_exceptions=True)
        except asyncio.CancelledError:
            await asyncio.gather(*asked, return_exceptions=True)
            for claim in (claim for task in asked if _succeeded(task) for claim in task.result().claims):
                raw = packed(claim.job.id)
                self.release(self._keys.shard_of(raw), [raw, claim.lease.step, claim.lease.token])
            raise
        claims = [claim for task in asked if _succeeded(task) for claim in task.result().claims]
        errors = [error for task in asked if isinstance(error := task.exception(), StoreError)]
        if errors and not claims:
            raise errors[0]
        return sorted(claims, key=_turn)

    async def _peek(self, demand: Demand) -> list[Head]:
        """The heads of all queues; those of shards that cannot be reached are left out, unless none can."""
        shards = self._keys.shards
        answers = await self._peek_at(shards, demand, 0.0)
        if all(isinstance(answer, StoreError) for answer in answers):
            answers = await self._peek_at(shards, demand, PATIENCE)
        sift(answers)
        return [
            Head(function, float(row[0]), float(row[1] or math.inf), shard.number, row[2:])
            for shard, rows in zip(shards, answers, strict=True)
            if not isinstance(rows, BaseException)
            for function, row in zip(demand.functions, rows, strict=True)
        ]

    async def _peek_at(self, shards: list[ShardKeys], demand: Demand, patience: float) -> list[Any]:
        calls = []
        for shard in shards:
            keys = [*shard.fixed, *(key for function in demand.functions for key in shard.queue(function))]
            calls.append(
                Call("peek", keys, lambda replay: (demand.limit, *demand.functions), patience=patience)
            )
        return await asyncio.gather(*map(self._courier.lane.ask, calls), return_exceptions=True)


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


def sift(answers: Sequence[Any]) -> list[Any]:
    """The answers among what may be failures of the store. Raises one of these if there is nothing else."""
    good = [answer for answer in answers if not isinstance(answer, StoreError)]
    for answer in good or answers[:1]:
        if isinstance(answer, BaseException):
            raise answer
    return good


def _turn(claim: Claim) -> tuple[int, float, str, int]:
    return -claim.job.priority, claim.step.due, claim.job.id, claim.lease.step


def _succeeded(task: asyncio.Task[Found]) -> bool:
    return not task.cancelled() and task.exception() is None
