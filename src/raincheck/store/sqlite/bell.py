"""A doorbell between the processes that have the same database open.

Each process that waits for something has a datagram socket in a folder beside the database; whoever
writes sends a word to all of them. It is a hint and no more: a lost one costs a second, because
everybody also looks once a second. Where there are no such sockets, they look 60 times a second,
at SQLite's own change counter, which costs some microseconds each.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import msgspec

from raincheck.clock import new_id

MAX_BYTES = 60_000
PATH_LIMIT = 100


class Ring(msgspec.Struct, array_like=True):
    """A word to the others: functions with new places, jobs that changed; ``all``: look at everything."""

    functions: list[str]
    jobs: list[str]
    all: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Ring)
_LOOK_AT_ALL = _encoder.encode(Ring([], [], True))


class Bell:
    """The bell of one process: it rings the others, and listens once somebody here waits."""

    def __init__(self, database: Path) -> None:
        self._folder = database.with_name(database.name + "-bell")
        self._name = f"{os.getpid()}-{new_id()[-8:]}"
        self._socket: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._peers: list[str] = []
        self._stamp = 0
        self._missed: set[str] = set()
        self._closed = False
        self.works = hasattr(socket, "AF_UNIX") and os.name == "posix"

    @property
    def behind(self) -> bool:
        """Whether some peer's inbox was full, so that it has to be rung again."""
        return bool(self._missed)

    def listen(self, heard: Callable[[Ring], None]) -> None:
        """Call ``heard``, from a thread, for every word from another process."""
        if self._socket is not None or not self.works:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            listener.bind(self._address(self._name))
        except OSError:
            self.works = False
            return
        self._socket = listener
        Thread(target=self._listen, args=(listener, heard), name="raincheck-bell", daemon=True).start()

    def _listen(self, listener: socket.socket, heard: Callable[[Ring], None]) -> None:
        while True:
            try:
                message = listener.recv(MAX_BYTES + 1024)
            except OSError:
                return
            if self._closed:
                return
            with suppress(msgspec.MsgspecError):
                heard(_decoder.decode(message))

    def ring(self, functions: Iterable[str], jobs: Iterable[str]) -> None:
        """Tell all other processes. Never blocks, never fails."""
        peers = self._others()
        if not peers:
            return
        message = _encoder.encode(Ring(list(functions), list(jobs)))
        if len(message) > MAX_BYTES:
            message = _LOOK_AT_ALL
        for peer in peers:
            self._send(peer, _LOOK_AT_ALL if peer in self._missed else message)

    def ring_missed(self) -> None:
        """Ring those again whose inbox was full."""
        for peer in list(self._missed):
            self._send(peer, _LOOK_AT_ALL)

    def _send(self, peer: str, message: bytes) -> None:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
        self._missed.discard(peer)
        try:
            self._sender.sendto(message, self._address(peer))
        except BlockingIOError:
            self._missed.add(peer)
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(OSError):
                (self._folder / peer).unlink()
        except OSError:
            pass

    def _others(self) -> list[str]:
        """The sockets in the folder but our own; read anew only when the folder has changed."""
        if not self.works:
            return []
        try:
            stamp = os.stat(self._folder).st_mtime_ns
            if stamp != self._stamp:
                self._peers = [name for name in os.listdir(self._folder) if name != self._name]
                self._stamp = stamp
        except OSError:
            return []
        return self._peers

    def _address(self, name: str) -> str:
        address = str(self._folder / name)
        if len(address) <= PATH_LIMIT:
            return address
        return os.path.relpath(address)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._socket is not None:
            with suppress(OSError):
                (self._folder / self._name).unlink()
            with suppress(OSError):  # wakes the listening thread, also where shutdown does not
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if self._sender is not None:
            self._sender.close()
        with suppress(OSError):
            self._folder.rmdir()
