"""Claims while there is room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from raincheck.clock import chance
from raincheck.errors import StoreError
from raincheck.model import Claim
from raincheck.worker.shift import Shift

logger = logging.getLogger("raincheck.worker")

WAIT = 30.0
"""Seconds for which one claim waits for something to do."""

PAUSE = 0.1
MAX_PAUSE = 5.0


class Intake:
    """Asks the store for as many steps of ``functions`` as there is ``room`` for, and begins them."""

    def __init__(
        self, shift: Shift, worker: str, functions: tuple[str, ...], lease: float, room: Callable[[], int]
    ) -> None:
        self._shift = shift
        self._worker = worker
        self._functions = functions
        self._lease = lease
        self._room = room
        self._made_room = asyncio.Event()
        shift.when_room.append(self._made_room.set)

    async def run(self) -> None:
        """Claim until cancelled. A claim that is cancelled gives back what it brings."""
        pause = PAUSE
        while True:
            self._made_room.clear()
            room = self._room()
            if room <= 0:
                await self._made_room.wait()
                continue
            try:
                claims = await self._claim(room)
                self._shift.begin(claims, await self._shift.previous(claims))
            except StoreError as error:
                if pause == PAUSE:
                    logger.warning("nothing can be claimed: %s", error)
                await asyncio.sleep(pause * (0.5 + chance()))
                pause = min(2 * pause, MAX_PAUSE)
            else:
                if pause > PAUSE:
                    logger.info("claims are answered again")
                pause = PAUSE

    async def _claim(self, room: int) -> list[Claim]:
        return await self._shift.store.claim(self._worker, self._functions, room, self._lease, WAIT)
