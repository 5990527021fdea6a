"""Claims steps for one kind of slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from raincheck.core.clock import chance
from raincheck.core.errors import RaincheckError
from raincheck.core.retry import Backoff
from raincheck.functions.registry import Function
from raincheck.worker.dispatcher import Claimed, Dispatcher
from raincheck.worker.executor import Slots

logger = logging.getLogger("raincheck.worker")

NOTHING = Claimed([], {})


class Claimer:
    """Claims steps of ``functions`` for the free ones of ``slots``.

    A claim takes at most half of all slots. So there is room for the next claim before what the last one
    brought has run: the dispatcher works on one while the worker runs the other.
    """

    def __init__(self, dispatcher: Dispatcher, functions: Sequence[Function], slots: Slots) -> None:
        self._dispatcher = dispatcher
        self._names = tuple(function.name for function in functions)
        self._slots = slots
        self._most = -(-slots.size // 2)
        self._backoff = Backoff()

    async def claim(self) -> Claimed:
        """Steps for free slots; waits for a free slot, and then for a ready step.

        None if no step came for a while, or if the dispatcher cannot claim now. If the call is cancelled,
        what it claimed is given back.
        """
        limit = min(await self._slots.wait(), self._most)
        try:
            claimed = await self._dispatcher.claim(self._names, limit)
        except RaincheckError as error:
            if not self._backoff.is_on:
                logger.warning("nothing can be claimed: %s", error)
            await asyncio.sleep(self._backoff.next(chance()))
            return NOTHING
        if self._backoff.is_on:
            logger.info("claims succeed again")
            self._backoff.reset()
        return claimed
