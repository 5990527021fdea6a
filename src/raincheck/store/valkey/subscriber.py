"""Hears from other processes what has changed, over publish and subscribe: a hint and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from raincheck.clock import new_id
from raincheck.store.signals import Signals
from raincheck.store.valkey.ready import Ready

LOOK = 1.0


class Word(msgspec.Struct, array_like=True):
    """Functions with something ready, jobs that changed, whether anything may have, who says so."""

    functions: list[str]
    jobs: list[str]
    all: bool = False
    origin: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Word).decode


def message(functions: Iterable[str], jobs: list[str], origin: str) -> bytes:
    """A word for the others; empty if there is nothing to say."""
    names = list(functions)
    return _encode(Word(names, jobs, False, origin)) if names or jobs else b""


class Subscriber:
    """One subscription a process, begun when somebody here first waits for something."""

    def __init__(self, connect: Callable[[], Any], channel: str, signals: Signals, ready: Ready) -> None:
        self.origin = new_id()
        self._connect = connect
        self._channel = channel
        self._signals = signals
        self._ready = ready
        self._task: asyncio.Task[None] | None = None
        self._began = False
        self._heard = asyncio.Event()

    async def start(self) -> None:
        """See that there is a subscription."""
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            self._heard = asyncio.Event()
            self._task = asyncio.create_task(self._listen())
        if self._task.get_loop() is asyncio.get_running_loop() and not self._heard.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._heard.wait()

    async def _listen(self) -> None:
        while True:
            with suppress(Exception):
                await self._subscribed()
            await asyncio.sleep(0.1)

    async def _subscribed(self) -> None:
        client = self._connect()
        if hasattr(client, "get_random_node"):  # a cluster tells every node, so that any will do
            node = client.get_random_node()
            raise NotImplementedError(node)
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(self._channel)
                self._missed()
                while True:
                    news = await pubsub.get_message(timeout=LOOK)
                    self._heard.set()
                    if news is not None and news["type"] == "message":
                        self._hear(_decode(news["data"]))
        finally:
            await client.aclose()

    def _missed(self) -> None:
        """What was said before we listened, or while we were cut off, is not known."""
        self._signals.tell({})
        self._ready.tell(None)

    def _hear(self, word: Word) -> None:
        if word.origin == self.origin:
            return
        if word.all or word.jobs:
            self._signals.tell({} if word.all else dict.fromkeys(word.jobs))
        if word.all or word.functions:
            self._ready.tell(None if word.all else word.functions)

    async def close(self) -> None:
        """End the subscription."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
