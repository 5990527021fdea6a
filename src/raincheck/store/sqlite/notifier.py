"""Notifications between the processes that have the same database open.

Each process that waits has a datagram socket in a folder next to the database. A process that writes sends a
notification to all sockets. A lost notification costs at most a second, because every process also checks
once per second. Without such sockets, a process checks SQLite's change counter 40 times per second, which
costs a few microseconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import msgspec

from raincheck.core.clock import new_id, now
from raincheck.store.sqlite.connection import in_memory

MAX_BYTES = 60_000
PATH_LIMIT = 100
MTIME_RESOLUTION = 0.1
"""Seconds after a change of a folder from which the next change gives it another mtime."""


class Notification(msgspec.Struct, array_like=True):
    """Functions with new queue entries, and jobs that changed; ``all``: anything may have changed."""

    functions: list[str]
    jobs: list[str]
    all: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Notification)
_ALL = _encoder.encode(Notification([], [], True))


class Notifier:
    """The socket of one process. Used by one thread; ``receive`` is called on another."""

    def __init__(self, database: Path, receive: Callable[[Notification], None]) -> None:
        self._folder = database.with_name(database.name + "-bell")
        self._name = f"{os.getpid()}-{new_id()[-8:]}"
        self._receive = receive
        self._listener: socket.socket | None = None
        self._thread: Thread | None = None
        self._sender: socket.socket | None = None
        self._peers: list[str] = []
        self._mtime = 0
        self._missed: set[str] = set()
        self._closed = False
        self.deaf = not hasattr(socket, "AF_UNIX") or os.name != "posix" or in_memory(database)
        """Whether this process cannot receive notifications: there are no sockets, or no folder for them."""

    @property
    def behind(self) -> bool:
        """Whether the inbox of another process was full, so that it has to be notified again."""
        return bool(self._missed)

    @property
    def is_listening(self) -> bool:
        """Whether this process receives notifications."""
        return self._listener is not None

    def listen(self) -> bool:
        """Receive notifications. True: this call started it, so earlier changes may have been missed."""
        if self.is_listening or self.deaf:
            return False
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._bind(listener)
        except OSError:
            listener.close()
            self.deaf = True
            return False
        self._listener = listener
        self._thread = Thread(target=self._listen, args=(listener,), name="raincheck-notifier", daemon=True)
        self._thread.start()
        return True

    def _bind(self, listener: socket.socket) -> None:
        with suppress(FileNotFoundError):
            return self._bind_once(listener)
        return self._bind_once(listener)  # a process that ended has just removed the folder

    def _bind_once(self, listener: socket.socket) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        listener.bind(self._address(self._name))

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                message = listener.recv(MAX_BYTES + 1024)
            except OSError:
                return
            if self._closed:
                return
            with suppress(msgspec.MsgspecError):
                self._receive(_decoder.decode(message))

    def notify(self, functions: Iterable[str], jobs: Iterable[str]) -> None:
        """Notify all other processes. Does not block and does not raise."""
        peers = self._others()
        if not peers:
            return
        message = _encoder.encode(Notification(list(functions), list(jobs)))
        if len(message) > MAX_BYTES:
            message = _ALL
        for peer in peers:
            self._send(peer, _ALL if peer in self._missed else message)

    def notify_missed(self) -> None:
        """Notify the processes again whose inbox was full."""
        for peer in tuple(self._missed):
            self._send(peer, _ALL)

    def _send(self, peer: str, message: bytes) -> None:
        self._missed.discard(peer)
        try:
            if self._sender is None:
                self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sender.setblocking(False)
            self._sender.sendto(message, self._address(peer))
        except BlockingIOError:
            self._missed.add(peer)
        except ConnectionRefusedError:  # its process has ended
            with suppress(OSError):
                (self._folder / peer).unlink()
        except OSError:
            pass

    def _others(self) -> list[str]:
        """The other sockets in the folder; the folder is read only if it may have changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._mtime:
                self._peers = [path.name for path in self._folder.iterdir() if path.name != self._name]
                self._mtime = changed if now() - changed / 1e9 > MTIME_RESOLUTION else 0
        except OSError:
            return []
        return self._peers

    def _address(self, name: str) -> str:
        address = str(self._folder / name)
        return address if len(address) <= PATH_LIMIT else os.path.relpath(address)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._listener is not None and self._thread is not None:
            self._send(self._name, _ALL)  # wakes the thread
            self._thread.join(1.0)
            self._listener.close()
            with suppress(OSError):
                (self._folder / self._name).unlink()
        if self._sender is not None:
            self._sender.close()
        with suppress(OSError):
            self._folder.rmdir()
