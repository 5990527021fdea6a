"""The worker: claims steps of the functions it offers, runs them, and writes what came of it.

Its duties are small parts. `intake` claims; `shift` has the work in hand: `attempt` prepares and judges
it, `crew` runs it (on the loop, in `threads`, in `processes`), `finisher` writes the outcomes, `notices`
hears of cancels, `reporter` tells progress; `keeper` extends the leases from a thread of its own.
`raincheck.engine.maintenance` recovers what others lost.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType
from typing import Any, Self

from msgspec.structs import replace

from raincheck.app import App
from raincheck.clock import new_id, now
from raincheck.engine.maintenance import Maintenance
from raincheck.errors import StoreError
from raincheck.model import WorkerInfo
from raincheck.version import VERSION
from raincheck.worker.intake import Intake
from raincheck.worker.keeper import Keeper
from raincheck.worker.shift import Shift

__all__ = ["Worker"]

PATIENCE = 1.0
"""Seconds that a worker which leaves gives the thread that keeps its leases, should the store be slow."""


class Worker:
    """Runs the functions of ``app``: up to ``concurrency`` attempts at once on the loop and in threads,
    and up to ``processes`` (by default one a core) in child processes.

    ``lease`` is how many seconds after this process has died others may take over what it ran; ``grace``
    how many seconds running attempts get when it is stopped. Use it as an async context manager, or
    ``await run(stop)``.
    """

    def __init__(
        self,
        app: App,
        *,
        concurrency: int = 100,
        processes: int | None = None,
        lease: float = 15.0,
        grace: float = 30.0,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._app = app
        self._concurrency = concurrency
        self._processes = processes or os.cpu_count() or 1
        self._lease = lease
        self._grace = grace
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(self._stop))
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait([self._task, ready], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
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
        period, give back the rest, and leave. Cancelled, it leaves without the grace."""
        await self._app.open()
        async with AsyncExitStack() as stack:
            state: Mapping[str, Any] | None = None
            if self._app.lifespan is not None:
                state = await stack.enter_async_context(self._app.lifespan(self._app))
            shift = Shift(
                self._app.engine, self._concurrency, self._processes, MappingProxyType(dict(state or {}))
            )
            store, info = self._app.engine.store, self._info()
            keeper = Keeper(store, self._lease, shift, info)
            stack.push_async_callback(self._leave, shift, keeper)
            await asyncio.to_thread(store.heartbeat, info, [], self._lease)
            keeper.start()
            self._app.engine.held += shift.tables
            await stack.enter_async_context(Maintenance(self._app.engine))
            self._ready.set()
            try:
                await self._work(stop, shift)
                keeper.say("stopping")
                await shift.wind_up(self._grace)
            finally:
                await shift.abort()

    async def _work(self, stop: asyncio.Event, shift: Shift) -> None:
        """Claim and run until told to stop; a cancelled claim gives back what it brings."""
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(i.run()) for i in self._intakes(shift)}
        tasks.add(asyncio.create_task(stop.wait()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()  # an intake ends only if it fails

    def _intakes(self, shift: Shift) -> list[Intake]:
        """One for each kind of slot that has functions: a full one must not keep the other from work."""
        functions = list(self._app.functions)
        kinds = (
            (shift.crew.room, [f.name for f in functions if f.mode != "process"]),
            (shift.crew.children, [f.name for f in functions if f.mode == "process"]),
        )
        return [Intake(shift, self.id, tuple(names), self._lease, room) for room, names in kinds if names]

    async def _leave(self, shift: Shift, keeper: Keeper) -> None:
        await shift.close()
        keeper.stop()
        if keeper.ident is not None:  # it was started; what it says last must not come after the farewell
            await asyncio.to_thread(keeper.join, PATIENCE)
            engine, mine = self._app.engine, shift.tables
            engine.held = [table for table in engine.held if all(table is not own for own in mine)]
        with suppress(StoreError):
            stopped = replace(self._info(), state="stopped")
            await asyncio.to_thread(self._app.engine.store.heartbeat, stopped, [], self._lease)

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            concurrency=self._concurrency,
            functions=tuple(function.info for function in self._app.functions),
            started_at=now(),
        )
