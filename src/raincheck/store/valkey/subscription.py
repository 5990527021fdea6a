"""Notifications between processes by publish and subscribe, and the claims that wait for them.

A notification is a hint: it names jobs that changed and functions with new queue entries. A lost one does no
harm, because waiting calls also read the store from time to time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from threading import Lock
from typing import Self

import hiredis
import msgspec

from raincheck.core.clock import monotonic
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
    """The waiting claims of this process.

    There may be thousands, and most hints are about one step. So a hint wakes one claim for each function,
    the one that began to wait first. It looks in the store. When a claim ends, it wakes one other claim for
    each of its functions, which goes on in its place; two, if there may be more steps than it could take.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiters: dict[ClaimWaiter, None] = {}
        self.looked_at: dict[frozenset[str], float] = {}
        """When claims of the same functions last looked in the store (monotonic)."""

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def wake(self, functions: Iterable[str] | None) -> None:
        """Wake a claim of each of these functions (None: all claims). May be called from any thread."""
        if not self._waiters:
            return
        with self._lock:
            woken = list(self._waiters) if functions is None else self._first(functions, 1)
        _wake(woken)

    def add(self, waiter: ClaimWaiter) -> None:
        """Wake this claim from now on."""
        with self._lock:
            self._waiters[waiter] = None

    def discard(self, waiter: ClaimWaiter) -> None:
        """Stop waking this claim; others of its functions go on in its place."""
        with self._lock:
            self._waiters.pop(waiter, None)
            woken = self._first(waiter.functions, 2 if waiter.may_leave_more else 1)
            if not self._waiters:
                self.looked_at.clear()
        _wake(woken)

    def _first(self, functions: Iterable[str], count: int) -> list[ClaimWaiter]:
        """The first ``count`` claims of each function, without those that have been woken already."""
        woken: list[ClaimWaiter] = []
        for function in functions:
            of_function = (waiter for waiter in self._waiters if function in waiter.functions)
            for waiter in islice(of_function, count):
                if not waiter.is_woken:
                    waiter.is_woken = True
                    woken.append(waiter)
        return woken


class ClaimWaiter:
    """A claim on the running loop that waits for one of its functions, inside ``with``."""

    def __init__(self, waiters: ClaimWaiters, functions: Iterable[str]) -> None:
        self._waiters = waiters
        self.functions = frozenset(functions)
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()
        self.is_woken = False
        """Whether it has to look, and has not begun to."""
        self.may_leave_more = False
        """Whether it took as many steps as it could."""

    def __enter__(self) -> Self:
        self._waiters.add(self)
        self._look()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._waiters.discard(self)

    async def wait(self, seconds: float, due: float, look_every: float) -> None:
        """Wait until the claim has to look: it is woken, or ``due`` seconds or all ``seconds`` are over.

        Also if no claim of the same functions has looked for ``look_every`` seconds.
        """
        until = monotonic() + min(seconds, due)
        while True:
            looked_at = self._waiters.looked_at.get(self.functions, 0.0)
            try:
                async with asyncio.timeout(min(until, looked_at + look_every) - monotonic()):
                    await self.event.wait()
                    break
            except TimeoutError:
                if monotonic() >= until or self._waiters.looked_at.get(self.functions, 0.0) == looked_at:
                    break
        self._look()

    def _look(self) -> None:
        """Begin to look: what comes from now on wakes it again."""
        self.is_woken = False
        self.event.clear()
        self._waiters.looked_at[self.functions] = monotonic()


def _wake(waiters: Iterable[ClaimWaiter]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[ClaimWaiter]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.loop, []).append(waiter)
    for loop, of_loop in by_loop.items():
        call_into(loop, _set_events, of_loop)


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
