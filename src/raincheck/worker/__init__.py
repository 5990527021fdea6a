"""The worker: claims steps of the functions it offers, runs them, and writes what came of it.

Its duties are small parts. `intake` claims; `shift` has the work in hand: `attempt` prepares and judges
it, `crew` runs it (on the loop, in `threads`, in `processes`), `finisher` writes the outcomes, `notices`
hears of cancels, `reporter` tells progress; `keeper` extends the leases from a thread of its own.
`raincheck.upkeep` recovers what others lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType
from typing import Self

from raincheck.app import App
from raincheck.clock import new_id, now
from raincheck.errors import StoreError
from raincheck.model import WorkerInfo
from raincheck.upkeep import Upkeep
from raincheck.version import VERSION
from raincheck.worker.intake import Intake
from raincheck.worker.keeper import Keeper
from raincheck.worker.shift import Shift

__all__ = ["Worker"]

logger = logging.getLogger("raincheck.worker")


class Worker:
    """Runs the functions of ``app``: up to ``concurrency`` attempts at once.

    ``lease`` is how many seconds after this process has died others may take over what it ran; ``grace``
    how many seconds running attempts get when it is stopped. Use it as an async context manager, or
    ``await run(stop)``.
    """

    def __init__(self, app: App, *, concurrency: int = 100, lease: float = 15.0, grace: float = 30.0) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._app = app
        self._concurrency = concurrency
        self._lease = lease
        self._grace = grace
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._info = WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            concurrency=concurrency,
            functions=tuple(function.info for function in app.functions),
            started_at=now(),
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(self._stop))
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([self._task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then take no more, let running attempts end within the grace
        period, give back the rest, and leave."""
        await self._app.open()
        store = self._app.jobs.store
        async with AsyncExitStack() as stack:
            state = None
            if self._app.lifespan is not None:
                state = await stack.enter_async_context(self._app.lifespan(self._app))
            intake = Intake(store, self.id, self._app.functions.names, self._lease)
            shift = Shift(self._app, self._concurrency, MappingProxyType(dict(state or {})), intake.made_room)
            keeper = Keeper(store, self._lease, shift, self._info)
            stack.push_async_callback(self._leave, shift, keeper)
            await store.register(self._info, self._lease)
            keeper.start()
            await stack.enter_async_context(Upkeep(self._app))
            self._ready.set()
            await self._work(stop, intake, shift)
            keeper.say("stopping")
            await self._drain(shift)

    async def _work(self, stop: asyncio.Event, intake: Intake, shift: Shift) -> None:
        """Claim and run until told to stop; a cancelled claim gives back what it brings."""
        claiming = asyncio.create_task(intake.run(shift))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([claiming, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            claiming.cancel()
            with suppress(asyncio.CancelledError):
                await claiming

    async def _drain(self, shift: Shift) -> None:
        """Give back what has not begun, wait for what runs, give back what still does."""
        with suppress(StoreError):  # leases that could not be given back run out
            await shift.give_back()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await shift.finished()
            await shift.abort()

    async def _leave(self, shift: Shift, keeper: Keeper) -> None:
        await shift.close()
        keeper.stop()
        with suppress(StoreError):
            await self._app.jobs.store.unregister(self.id)
