"""The connection of one event loop on which it hears hints of other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import hiredis

from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.connection import Pause, connect, pack
from raincheck.store.valkey.hints import Hints

logger = logging.getLogger("raincheck.store")

PING_AFTER = 15.0
"""Seconds without a message after which a PING is sent; after twice that a new connection is made."""

PING: bytes = pack(("PING",))


class Subscription(asyncio.Protocol):
    """Hears one channel until it is closed, over as many connections as it takes."""

    def __init__(
        self, address: Address, place: Callable[[], HostPort | None], channel: str, hints: Hints
    ) -> None:
        self._address = address
        self._place = place
        self._subscribe: bytes = pack(("SUBSCRIBE", channel))
        self._hints = hints
        self._reader = hiredis.Reader()
        self._heard = asyncio.Event()
        self._lost = False
        self._closed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Hear no more."""
        self._closed = True  # while redis-py connects, it may miss that it is cancelled
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = Pause()
        while not self._closed:
            try:
                await self._hear()
                pause = Pause()
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes on: without it all would be slow
                logger.debug("the subscription was cut off: %s", error)
            if not self._closed:
                await asyncio.sleep(pause.next())

    async def _hear(self) -> None:
        """Hear on one connection until it is lost."""
        opened = await connect(self._address, self._place())
        transport = opened.writer.transport
        try:
            if self._closed:
                return
            self._reader, self._lost = hiredis.Reader(), False
            transport.set_protocol(self)
            transport.write(self._subscribe)
            while await self._hears_something():
                transport.write(PING)
                if not await self._hears_something(last=True):
                    return
        finally:
            transport.abort()

    async def _hears_something(self, *, last: bool = False) -> bool:
        """Wait until nothing was heard for a while (or, ``last``, until something is); False: it is over."""
        while not self._lost:
            self._heard.clear()
            try:
                async with asyncio.timeout(PING_AFTER):
                    await self._heard.wait()
            except TimeoutError:
                return not last
            if last:
                return not self._lost
        return False

    def data_received(self, data: bytes) -> None:
        self._heard.set()
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            kind = message[0] if isinstance(message, list) else b""
            if kind == b"subscribe":  # what was said before is not known
                self._hints.tell_all()
            elif kind == b"message":
                self._hints.hear(message[2])

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._heard.set()
