"""Notifications between the processes that have the same database open.

Each process that waits for something has a datagram socket in a folder beside the database; a process that
writes sends a notification to all of them. It is only a hint: a lost one costs a second, because every
process also looks at the database once a second. Where there are no such sockets, it looks 40 times a
second at SQLite's own change counter, which costs a few microseconds.
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

MAX_BYTES = 60_000
PATH_LIMIT = 100
SETTLED = 0.1
"""Seconds after which a folder's time of change is sure to differ at the next change."""


class Notification(msgspec.Struct, array_like=True):
    """Functions with new queue entries, and jobs that changed; ``all``: look at everything."""

    functions: list[str]
    jobs: list[str]
    all: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Notification)
_LOOK_AT_ALL = _encoder.encode(Notification([], [], True))


class Notifier:
    """The socket of one process. All of it belongs to one thread, except what is passed to ``heard``."""

    def __init__(self, database: Path, heard: Callable[[Notification], None]) -> None:
        self._folder = database.with_name(database.name + "-bell")
        self._name = f"{os.getpid()}-{new_id()[-8:]}"
        self._heard = heard
        self._listener: socket.socket | None = None
        self._thread: Thread | None = None
        self._sender: socket.socket | None = None
        self._peers: list[str] = []
        self._stamp = 0
        self._missed: set[str] = set()
        self._closed = False
        self.deaf = not hasattr(socket, "AF_UNIX") or os.name != "posix"
        """Whether others cannot be heard."""

    @property
    def behind(self) -> bool:
        """Whether some peer's inbox was full, so that it has to be notified again."""
        return bool(self._missed)

    @property
    def settled(self) -> bool:
        """Whether it listens already, or never will."""
        return self._listener is not None or self.deaf

    def listen(self) -> bool:
        """Hear the others from now on. True: from just now on, so they may not have been heard before."""
        if self.settled:
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
        return self._bind_once(listener)  # somebody had just removed the folder on leaving

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
                self._heard(_decoder.decode(message))

    def notify(self, functions: Iterable[str], jobs: Iterable[str]) -> None:
        """Tell all other processes. Never blocks, never fails."""
        peers = self._others()
        if not peers:
            return
        message = _encoder.encode(Notification(list(functions), list(jobs)))
        if len(message) > MAX_BYTES:
            message = _LOOK_AT_ALL
        for peer in peers:
            self._send(peer, _LOOK_AT_ALL if peer in self._missed else message)

    def notify_missed(self) -> None:
        """Notify those again whose inbox was full."""
        for peer in tuple(self._missed):
            self._send(peer, _LOOK_AT_ALL)

    def _send(self, peer: str, message: bytes) -> None:
        self._missed.discard(peer)
        try:
            if self._sender is None:
                self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sender.setblocking(False)
            self._sender.sendto(message, self._address(peer))
        except BlockingIOError:
            self._missed.add(peer)
        except ConnectionRefusedError:  # its process died
            with suppress(OSError):
                (self._folder / peer).unlink()
        except OSError:
            pass

    def _others(self) -> list[str]:
        """The sockets in the folder but our own; read anew only when the folder may have changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._stamp:
                self._peers = [path.name for path in self._folder.iterdir() if path.name != self._name]
                self._stamp = changed if now() - changed / 1e9 > SETTLED else 0
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
            self._send(self._name, _LOOK_AT_ALL)  # wakes the thread
            self._thread.join(1.0)
            self._listener.close()
            with suppress(OSError):
                (self._folder / self._name).unlink()
        if self._sender is not None:
            self._sender.close()
        with suppress(OSError):
            self._folder.rmdir()
