"""Claims steps for one kind of slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from raincheck.core.clock import chance
from raincheck.core.errors import RaincheckError
from raincheck.core.retry import Backoff
from raincheck.functions.registry import Function
from raincheck.store.base import NO_LIMITS
from raincheck.worker.dispatcher import Claimed, Dispatcher
from raincheck.worker.executor import Slots

logger = logging.getLogger("raincheck.worker")

WAIT = 30.0
"""Seconds for which a claim waits for a ready step."""

NOTHING = Claimed([], {})


class Claimer:
    """Claims steps of ``functions`` for the free ones of ``slots``; waits up to ``wait`` seconds for one.

    A claim takes at most half of all slots. So there is room for the next claim before what the last one
    brought has run: the dispatcher works on one while the worker runs the other. It takes no more of a
    function than its ``concurrency`` allows; a function that is full is left out until one of its attempts
    ends.
    """

    def __init__(
        self, dispatcher: Dispatcher, functions: Sequence[Function], slots: Slots, wait: float = WAIT
    ) -> None:
        self._dispatcher = dispatcher
        self._names = tuple(function.name for function in functions)
        self._limited = [function for function in functions if function.concurrency is not None]
        self._slots = slots
        self._wait = wait
        self._most = -(-slots.size // 2)
        self._backoff = Backoff()

    async def claim(self) -> Claimed:
        """Steps for free slots; waits for a free slot, and then for a ready step.

        None if no step came for a while, or if the dispatcher cannot claim now. If the call is cancelled,
        what it claimed is given back.
        """
        limit = min(await self._slots.wait(), self._most)
        try:
            claimed = await self._next(limit)
        except RaincheckError as error:
            if not self._backoff.is_on:
                logger.warning("nothing can be claimed: %s", error)
            await asyncio.sleep(max(self._backoff.next(chance()), error.pause))
            return NOTHING
        if self._backoff.is_on:
            logger.info("claims succeed again")
            self._backoff.reset()
        return claimed

    @property
    def is_failing(self) -> bool:
        """Whether nothing could be claimed the last time, because of an error."""
        return self._backoff.is_on

    async def _next(self, limit: int) -> Claimed:
        """The next claims; none, if a function that was left out may be claimed now."""
        full = self._slots.full.copy()
        if not full:
            return await self._take(self._names, limit, self._wait)
        names = [name for name in self._names if name not in full]
        # the claim that may be cancelled is not the only one: else quick functions could cancel each
        if names and (claimed := await self._take(names, limit, 0.0)).claims:
            return claimed
        if full <= self._slots.full:
            async with self._slots.until_room(self._wait):
                if names:
                    return await self._take(names, limit, self._wait)
                await asyncio.sleep(self._wait)
        return NOTHING

    async def _take(self, names: Sequence[str], limit: int, wait: float) -> Claimed:
        room = self._slots.room(self._limited, limit) if self._limited else NO_LIMITS
        return await self._dispatcher.claim(names, limit, wait, room)
