"""Claims while there is room."""

from __future__ import annotations

import asyncio
import logging

from raincheck.clock import chance
from raincheck.errors import StoreError
from raincheck.model import Claim
from raincheck.store.base import Store
from raincheck.worker.shift import Shift

logger = logging.getLogger("raincheck.worker")

WAIT = 30.0
"""Seconds for which one claim waits for something to do."""

PAUSE = 0.1
MAX_PAUSE = 5.0


class Intake:
    """Asks the store for as much as a shift has room for, and hands it over."""

    def __init__(self, store: Store, worker: str, functions: tuple[str, ...], lease: float) -> None:
        self._store = store
        self._worker = worker
        self._functions = functions
        self._lease = lease
        self._made_room = asyncio.Event()
        self.consuming = False
        """Whether the last claim was answered."""

    def made_room(self) -> None:
        """An attempt has ended."""
        self._made_room.set()

    async def run(self, shift: Shift) -> None:
        """Claim until cancelled."""
        pause = PAUSE
        while True:
            self._made_room.clear()
            room = shift.room()
            if room <= 0:
                await self._made_room.wait()
                continue
            try:
                shift.begin(await self._claim(room))
                self.consuming, pause = True, PAUSE
            except StoreError as error:
                if self.consuming:
                    logger.warning("nothing can be claimed: %s", error)
                self.consuming = False
                await asyncio.sleep(pause * (0.5 + chance()))
                pause = min(2 * pause, MAX_PAUSE)

    async def _claim(self, room: int) -> list[Claim]:
        return await self._store.claim(self._worker, self._functions, room, self._lease, WAIT)
