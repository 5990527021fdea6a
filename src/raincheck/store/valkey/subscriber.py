"""Hears from other processes what has changed, over publish and subscribe: a hint and no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Lock, Thread

import msgspec
from redis import Redis, RedisError

from raincheck.store.signals import Signals
from raincheck.store.valkey.ready import Ready

logger = logging.getLogger("raincheck.store")

LOOK = 0.5
"""Seconds after which closing is noticed, if the word that wakes a subscriber cannot be sent."""

PAUSE = 0.2


class Word(msgspec.Struct, array_like=True):
    """Functions with new places, jobs that changed, and the process that says so."""

    functions: list[str]
    jobs: list[str]
    origin: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Word).decode


def message(functions: Iterable[str], jobs: list[str], origin: str) -> bytes:
    """A word for the others; empty if there is nothing to say."""
    names = list(functions)
    return _encode(Word(names, jobs, origin)) if names or jobs else b""


class Subscriber:
    """A thread with a subscription, begun when somebody in this process first waits for something."""

    def __init__(
        self, connect: Callable[[], Redis], channel: str, origin: str, signals: Signals, ready: Ready
    ) -> None:
        self._connect = connect
        self._channel = channel
        self.own = f"{channel}:{origin}"
        """A channel that nobody else hears: a word on it lets this one see that it is to end."""
        self._origin = origin
        self._signals = signals
        self._ready = ready
        self._lock = Lock()
        self._thread: Thread | None = None
        self._closed = Event()

    def start(self) -> None:
        """See that there is a subscription. Does not wait for it: when it is there, all look once more."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._closed = Event()
                self._thread = Thread(
                    target=self._run, args=(self._closed,), name="raincheck-subscriber", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """End the subscription, with the next word that comes."""
        self._closed.set()

    def close(self) -> None:
        """End the subscription, and wait for that."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closed.set()
        if thread is not None:
            thread.join()

    def _run(self, closed: Event) -> None:
        while not closed.is_set():
            try:
                self._listen(closed)
            except (RedisError, OSError) as error:
                logger.debug("the subscription was cut off: %s", error)
            except Exception:  # it goes on: without it, everything would be slow
                logger.exception("the subscription failed")
            closed.wait(PAUSE)

    def _listen(self, closed: Event) -> None:
        with self._connect() as client, client.pubsub() as pubsub:
            own = self.own.encode()
            pubsub.subscribe(self._channel, self.own)
            while not closed.is_set():
                news = pubsub.get_message(timeout=LOOK)
                if news is None:
                    continue
                if (
                    news["type"] == "subscribe" and news["channel"] == own
                ):  # what was said before is not known
                    self._signals.tell({})
                    self._ready.tell(None)
                elif news["type"] == "message":
                    with suppress(msgspec.MsgspecError):
                        self._hear(_decode(news["data"]))

    def _hear(self, word: Word) -> None:
        if word.origin == self._origin:
            return
        if word.jobs:
            self._signals.tell(dict.fromkeys(word.jobs))
        if word.functions:
            self._ready.tell(word.functions)
