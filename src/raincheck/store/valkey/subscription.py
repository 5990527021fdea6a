"""Notifications between processes by publish and subscribe, and the claims that wait for them.

A notification is a hint: it names jobs that changed and functions with new queue entries. A lost one does no
harm, because waiting calls also read the store from time to time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Self

import hiredis
import msgspec

from raincheck.core.model import Job
from raincheck.store.listeners import Listeners, call_into
from raincheck.store.valkey.address import Address, HostPort
from raincheck.store.valkey.connection import Backoff, connect, pack_command

logger = logging.getLogger("raincheck.store")

PING_AFTER = 15.0
"""Seconds without a message before a PING is sent; without an answer, the connection is opened again."""

PING: bytes = pack_command(("PING",))


class Hint(msgspec.Struct, array_like=True):
    """Functions with new queue entries, jobs that changed, and the process that sends the hint."""

    functions: list[str]
    jobs: list[str]
    origin: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hint).decode


class ClaimWaiters:
    """The waiting claims of this process. They are woken in the order in which they began to wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiters: dict[ClaimWaiter, None] = {}

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def wake(self, functions: Iterable[str] | None) -> None:
        """Wake the claims of these functions (None: all claims). May be called from any thread."""
        if not self._waiters:
            return
        names = None if functions is None else set(functions)
        with self._lock:
            woken = [w for w in self._waiters if names is None or not names.isdisjoint(w.functions)]
        by_loop: dict[asyncio.AbstractEventLoop, list[ClaimWaiter]] = {}
        for waiter in woken:
            by_loop.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in by_loop.items():
            call_into(loop, _set_events, waiters)

    def add(self, waiter: ClaimWaiter) -> None:
        """Wake this claim from now on."""
        with self._lock:
            self._waiters[waiter] = None

    def discard(self, waiter: ClaimWaiter) -> None:
        """Stop waking this claim."""
        with self._lock:
            self._waiters.pop(waiter, None)


class ClaimWaiter:
    """A claim on the running loop that waits for one of its functions, inside ``with``."""

    def __init__(self, waiters: ClaimWaiters, functions: Iterable[str]) -> None:
        self._waiters = waiters
        self.functions = frozenset(functions)
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def __enter__(self) -> Self:
        self._waiters.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._waiters.discard(self)

    async def wait(self, seconds: float) -> None:
        """Wait until woken, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            pass
        self.event.clear()


def _set_events(waiters: list[ClaimWaiter]) -> None:
    for waiter in waiters:
        waiter.event.set()


class Hints:
    """Encodes and receives hints, and notifies the listeners and the waiting claims of this process.

    ``origin`` identifies this process, which ignores its own hints.
    """

    def __init__(self, listeners: Listeners, waiters: ClaimWaiters, origin: str) -> None:
        self._listeners = listeners
        self._waiters = waiters
        self._origin = origin

    @property
    def wanted(self) -> bool:
        """Whether this process has listeners or waiting claims."""
        return self._listeners.present or bool(self._waiters)

    def message(self, functions: Iterable[str], job_ids: list[str]) -> bytes:
        """A hint for other processes; empty if it would name nothing."""
        names = list(functions)
        return _encode(Hint(names, job_ids, self._origin)) if names or job_ids else b""

    def notify(self, jobs: Mapping[str, Job | None], functions: Iterable[str]) -> None:
        """Notify this process of jobs that changed and functions with new queue entries."""
        if jobs:
            self._listeners.notify(jobs)
        if functions:
            self._waiters.wake(functions)

    def notify_all(self) -> None:
        """Notify every listener and claim: anything may have changed."""
        self._listeners.notify({})
        self._waiters.wake(None)

    def receive(self, message: bytes) -> None:
        """Notify this process of the hint of another one."""
        with suppress(msgspec.MsgspecError):
            hint = _decode(message)
            if hint.origin != self._origin:
                self.notify(dict.fromkeys(hint.jobs), hint.functions)


class Subscription(asyncio.Protocol):
    """Receives the hints of one channel on the running loop until it is closed; reconnects when needed."""

    def __init__(
        self, address: Address, node: Callable[[], HostPort | None], channel: str, hints: Hints
    ) -> None:
        self._address = address
        self._node = node
        self._subscribe: bytes = pack_command(("SUBSCRIBE", channel))
        self._hints = hints
        self._reader = hiredis.Reader()
        self._received = asyncio.Event()
        self._lost = False
        self._closed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True  # redis-py can swallow a cancellation while it connects
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._closed:
            try:
                await self._receive()
                backoff = Backoff()
            except Exception as error:  # noqa: BLE001 - it must go on: without hints, waiting calls are slow
                logger.debug("the subscription was disconnected: %s", error)
            if not self._closed:
                await asyncio.sleep(backoff.next())

    async def _receive(self) -> None:
        """Receive on one connection until it is lost."""
        stream = await connect(self._address, self._node())
        transport = stream.writer.transport
        try:
            if self._closed:
                return
            self._reader, self._lost = hiredis.Reader(), False
            transport.set_protocol(self)
            transport.write(self._subscribe)
            while True:
                while await self._receives_data():
                    pass
                if self._lost:
                    return
                transport.write(PING)
                if not await self._receives_data():
                    return
        finally:
            transport.abort()

    async def _receives_data(self) -> bool:
        """Whether data arrives within `PING_AFTER` seconds and the connection is not lost."""
        if not self._lost:
            self._received.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_AFTER):
                    await self._received.wait()
                return not self._lost
        return False

    def data_received(self, data: bytes) -> None:
        self._received.set()
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            kind = message[0] if isinstance(message, list) else b""
            if kind == b"subscribe":  # earlier hints were missed
                self._hints.notify_all()
            elif kind == b"message":
                self._hints.receive(message[2])

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._received.set()
