"""Claims steps for one kind of slot, and reads what they need to run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raincheck.core.clock import chance
from raincheck.core.errors import StoreError
from raincheck.core.model import Claim
from raincheck.core.retry import Backoff
from raincheck.engine.results import load_previous
from raincheck.functions.registry import Function
from raincheck.store.base import NO_LIMITS, Held, Store
from raincheck.worker.executor import Slots

logger = logging.getLogger("raincheck.worker")

WAIT = 30.0
"""Seconds for which a claim waits for a ready step."""


class Claimed(NamedTuple):
    """Claims, and for those that need it ``ctx.previous`` as JSON, by token; None: the job was removed."""

    claims: list[Claim]
    previous: Mapping[int, bytes | None]


NOTHING = Claimed([], {})


class Claimer:
    """Claims steps of ``functions`` for the free ones of ``slots``, with leases of ``lease`` seconds.

    A claim takes at most half of all slots. So there is room for the next claim before what the last one
    brought has run: the store works on one while the worker runs the other. It takes no more of a function
    than its ``concurrency`` allows; a function that is full is left out until one of its attempts ends.
    """

    def __init__(
        self, store: Store, worker: str, functions: Sequence[Function], lease: float, slots: Slots
    ) -> None:
        self._store = store
        self._worker = worker
        self._names = tuple(function.name for function in functions)
        self._limited = [function for function in functions if function.concurrency is not None]
        self._with_context = {f.name for f in functions if f.signature.context is not None}
        self._lease = lease
        self._slots = slots
        self._most = -(-slots.size // 2)
        self._backoff = Backoff()

    async def claim(self) -> Claimed:
        """Steps for free slots; waits for a free slot, and then for a ready step.

        None if no step came for a while, or if the store is away. If the call is cancelled, or cannot read
        what the steps need, they are given back.
        """
        limit = min(await self._slots.wait(), self._most)
        try:
            claims = await self._next(limit)
            claimed = Claimed(claims, await self._previous(claims))
        except StoreError as error:
            if not self._backoff.is_on:
                logger.warning("nothing can be claimed: %s", error)
            await asyncio.sleep(self._backoff.next(chance()))
            return NOTHING
        if self._backoff.is_on:
            logger.info("claims succeed again")
            self._backoff.reset()
        return claimed

    async def _next(self, limit: int) -> list[Claim]:
        """The next claims; none, if one that was left out may be claimed now."""
        full = self._slots.full.copy()
        if not full:
            return await self._take(self._names, limit, WAIT)
        names = [name for name in self._names if name not in full]
        # the claim that may be cancelled is not the only one: else quick functions could cancel each
        if names and (claims := await self._take(names, limit, 0.0)):
            return claims
        if full <= self._slots.full:
            async with self._slots.until_room(WAIT):
                if names:
                    return await self._take(names, limit, WAIT)
                await asyncio.sleep(WAIT)
        return []

    async def _take(self, names: Sequence[str], limit: int, wait: float) -> list[Claim]:
        room = self._slots.room(self._limited, limit) if self._limited else NO_LIMITS
        return await self._store.claim(self._worker, names, limit, self._lease, wait, room)

    async def _previous(self, claims: list[Claim]) -> dict[int, bytes | None]:
        wanted = [c for c in claims if c.step.stage > 0 and c.step.function in self._with_context]
        if not wanted:
            return {}
        try:
            previous = await load_previous(self._store, wanted)
        except BaseException:
            await give_back(self._store, [Held(c.job.id, c.lease.step, c.lease.token) for c in claims])
            raise
        return {claim.lease.token: each for claim, each in zip(wanted, previous, strict=True)}


async def give_back(store: Store, held: Sequence[Held]) -> None:
    """Return steps to the queue, unrun; if the store is away, their leases run out."""
    try:
        await store.release(held)
    except StoreError as error:
        logger.warning("%d steps could not be given back, their leases run out: %s", len(held), error)
