"""Carries script calls to the server: whatever came up while one trip was under way goes with the next.

There is a courier for each event loop that uses the store, for a connection belongs to a loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from raincheck.clock import chance, monotonic
from raincheck.errors import StoreError, StoreFull, StoreUnavailable
from raincheck.store.valkey.scripts import Script

PATIENCE = 5.0
"""Seconds for which a trip is tried again, before its callers hear of it."""

TRIPS = 2
"""Trips under way at once: while one is on the road, the next is packed."""


Args = Callable[[bool], list[Any]]
Abandoned = Callable[[Any], None] | None


class Call:
    """A script call on its way. ``args`` is told whether an earlier try may have been carried out.

    ``abandoned`` is called with the answer if nobody waits for it any more.
    """

    __slots__ = ("abandoned", "args", "future", "keys", "replayed", "script")

    def __init__(self, script: Script, keys: list[str], args: Args, abandoned: Abandoned = None) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.abandoned = abandoned
        self.replayed = False
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Courier:
    """The trips of one loop."""

    def __init__(
        self,
        connect: Callable[[], Redis],
        pack: Callable[[], list[Call]],
        acknowledge: tuple[str, ...] | None = None,
    ) -> None:
        self.client = connect()
        self._acknowledge = acknowledge
        self._waiting: list[Call] = []
        self._pack = pack
        self._leaving = False
        self._trips: set[asyncio.Task[None]] = set()
        self._closed = False

    async def call(self, script: Script, keys: list[str], args: Args, abandoned: Abandoned = None) -> Any:
        """The answer of a script. Raises `StoreUnavailable` or `StoreFull`."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        call = Call(script, keys, args, abandoned)
        self._waiting.append(call)
        self.nudge()
        try:
            return await call.future
        except asyncio.CancelledError:
            if abandoned is not None and call.future.done() and not call.future.cancelled():
                abandoned(call.future.result())
            raise

    def nudge(self) -> None:
        """There is something to be carried: leave soon, if not all trips are on the road."""
        if not self._leaving and len(self._trips) < TRIPS:
            self._leaving = True
            asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        self._leaving = False
        calls = [*self._pack(), *self._waiting]
        if calls:
            self._waiting = []
            trip = asyncio.create_task(self._travel(calls))
            self._trips.add(trip)
            trip.add_done_callback(self._back)

    def _back(self, trip: asyncio.Task[None]) -> None:
        self._trips.discard(trip)
        self._leave()

    async def _travel(self, calls: list[Call]) -> None:
        until, pause = monotonic() + PATIENCE, 0.02
        while calls:
            calls, error = await self._try(calls)
            if not calls or error is None:
                return
            if monotonic() > until or self._closed:
                for call in calls:
                    _fail(call, error)
                return
            await asyncio.sleep(pause * (0.5 + chance()))
            pause = min(2 * pause, 0.5)

    async def _try(self, calls: list[Call]) -> tuple[list[Call], StoreError | None]:
        """One trip; the calls to be tried again, and why."""
        try:
            async with self.client.pipeline(transaction=False) as pipeline:
                for call in calls:
                    pipeline.execute_command(
                        "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args(call.replayed)
                    )
                if self._acknowledge is not None:
                    pipeline.execute_command(*self._acknowledge)
                answers = await pipeline.execute(raise_on_error=False)
        except (exceptions.RedisError, OSError) as error:
            for call in calls:
                call.replayed = True
            return calls, translate(error)
        again: list[Call] = []
        reason: StoreError | None = None
        for call, answer in zip(calls, answers, strict=False):
            if isinstance(answer, exceptions.NoScriptError):
                await self.client.script_load(call.script.source)
                again.append(call)
                reason = StoreUnavailable("the scripts are being loaded")
            elif isinstance(answer, Exception) and _passes(answer):
                again.append(call)
                reason = translate(answer)
            elif isinstance(answer, Exception):
                _fail(call, translate(answer))
            elif not call.future.done():
                call.future.set_result(answer)
            elif call.abandoned is not None:
                call.abandoned(answer)
        return again, reason

    async def close(self) -> None:
        """Finish the trips under way."""
        self._closed = True
        await asyncio.gather(*self._trips, return_exceptions=True)
        await self.client.aclose()


def _fail(call: Call, error: StoreError) -> None:
    if not call.future.done():
        call.future.set_exception(error)


def _passes(error: Exception) -> bool:
    """Whether it may be over in a moment: a failover, a start, a slot on its way."""
    if isinstance(error, exceptions.BusyLoadingError | exceptions.ReadOnlyError | exceptions.ConnectionError):
        return True
    return str(error).startswith(("LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED"))


def translate(error: BaseException) -> StoreError:
    """Our error for one of the server's or the client's."""
    text = str(error) or type(error).__name__
    if text.startswith("OOM") or isinstance(error, exceptions.OutOfMemoryError):
        return StoreFull("the server has no memory left (maxmemory): give it more, or keep results for less long")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return StoreUnavailable(f"the server does not let us in: {text}")
    if isinstance(error, exceptions.ResponseError) and not _passes(error):
        return StoreError(f"the server refused: {text}")
    return StoreUnavailable(f"the server cannot be reached: {text}")
