"""Claims steps for one kind of slot."""

from __future__ import annotations

import asyncio
import logging

from raincheck.clock import chance
from raincheck.errors import StoreError
from raincheck.model import Claim
from raincheck.retry import Backoff
from raincheck.store.base import Store

logger = logging.getLogger("raincheck.worker")

WAIT = 30.0
"""Seconds for which one claim waits for something to do."""


class Claimer:
    """Claims steps of ``functions`` for ``worker``, with leases of ``lease`` seconds."""

    def __init__(self, store: Store, worker: str, functions: tuple[str, ...], lease: float) -> None:
        self._store = store
        self._worker = worker
        self._functions = functions
        self._lease = lease
        self._backoff = Backoff()

    async def claim(self, room: int) -> list[Claim]:
        """Up to ``room`` steps; none if nothing came for a while, or if the store is away.

        A claim that is cancelled gives back what it brings.
        """
        try:
            claims = await self._store.claim(self._worker, self._functions, room, self._lease, WAIT)
        except StoreError as error:
            if not self._backoff.is_on:
                logger.warning("nothing can be claimed: %s", error)
            await asyncio.sleep(self._backoff.next(chance()))
            return []
        if self._backoff.is_on:
            logger.info("claims are answered again")
            self._backoff.reset()
        return claims
