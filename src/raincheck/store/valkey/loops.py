"""The pipelines of a store: one for each event loop that uses it, and one for calls that block a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

from raincheck.core.errors import StoreUnavailable
from raincheck.store.valkey.address import Address
from raincheck.store.valkey.hints import Hints
from raincheck.store.valkey.keys import Keys
from raincheck.store.valkey.pipeline import CLOSING, OneServer, Pipeline, Servers
from raincheck.store.valkey.server_clock import ServerClock

T = TypeVar("T")


class Loops:
    """Gives each event loop its pipeline, from when the store is opened until it is closed."""

    def __init__(self, address: Address, keys: Keys, hints: Hints) -> None:
        self._address = address
        self._keys = keys
        self._hints = hints
        self.clock = ServerClock()
        self._lock = Lock()
        self._pid = 0
        self._pipelines: dict[asyncio.AbstractEventLoop, Pipeline] = {}
        self._blocking = BlockingLoop()

    @property
    def is_open(self) -> bool:
        """Whether the store may be used, in this process."""
        return self._pid == os.getpid()

    def open(self) -> None:
        """Give pipelines from now on."""
        self._pid = os.getpid()

    def pipeline(self) -> Pipeline:
        """The pipeline of the running loop. Raises `StoreUnavailable` if the store is not open."""
        loop = asyncio.get_running_loop()
        pipeline = self._pipelines.get(loop)
        if pipeline is None:
            pipeline = self._make(loop)
        if pipeline.subscription is None and self._hints.wanted and loop is not self._blocking.loop:
            pipeline.subscribe(self._address)
        return pipeline

    def subscribe(self) -> None:
        """Hear other processes on the running loop, if there is one and the store is open."""
        if self.is_open:
            with suppress(RuntimeError):
                self.pipeline()

    def _make(self, loop: asyncio.AbstractEventLoop) -> Pipeline:
        with self._lock:
            if not self.is_open:  # a connection must not be shared after a fork
                raise StoreUnavailable("the store is not open")
            for other in [each for each in self._pipelines if each.is_closed()]:
                del self._pipelines[other]
            pipeline = Pipeline(self._keys, self._servers, self.clock, self._hints)
            self._pipelines[loop] = pipeline
        return pipeline

    def _servers(self, refused: Any) -> Servers:
        if not self._address.cluster:
            return OneServer(self._address, None, refused)
        from raincheck.store.valkey.cluster.servers import ClusterServers

        return ClusterServers(self._address, refused)

    def block(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a call, made on a loop of our own: it needs no other, and blocks this thread."""
        if not self.is_open:
            raise StoreUnavailable("the store is not open")
        return self._blocking.run(call)

    async def close(self) -> None:
        """Let every loop finish what it began, for some seconds; then close the connections."""
        with self._lock:
            self._pid = 0
            pipelines, self._pipelines = self._pipelines, {}
        here = asyncio.get_running_loop()
        closing: list[Awaitable[None]] = []
        for loop, pipeline in pipelines.items():
            if loop is here:
                closing.append(pipeline.close())
            elif loop is self._blocking.loop:
                closing.append(asyncio.to_thread(self._blocking.close, pipeline.close))
            elif loop.is_running():
                closing.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pipeline.close(), loop)))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSING):
                await asyncio.gather(*closing, return_exceptions=True)


class BlockingLoop:
    """An event loop for calls from threads. It runs only during such a call, in the thread that calls."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a call."""
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
            return self.loop.run_until_complete(call())

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make the last call, and close the loop."""
        with self._lock:
            loop = self.loop
            if loop is not None:
                loop.run_until_complete(last())
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
                self.loop = None
