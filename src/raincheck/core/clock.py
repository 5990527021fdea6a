"""Time, randomness and new ids: the only module that reads clocks and random numbers."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import time
from datetime import UTC, datetime
from struct import Struct
from threading import Lock

__all__ = [
    "chance",
    "derived_id",
    "following_id",
    "from_datetime",
    "monotonic",
    "new_id",
    "new_secret",
    "now",
    "thread_time",
    "to_datetime",
]

now = time.time
monotonic = time.monotonic
thread_time = time.thread_time
chance = random.SystemRandom().random
"""In [0, 1). Functions that seed `random` do not change it, and forked children differ."""

_BLOCK = Struct("256Q")
_SEQUENCE_BITS = 12


class _Ids:
    """UUIDv7 (RFC 9562 §5.7, method 1): milliseconds, a 12-bit sequence, 62 random bits.

    The sequence makes the ids of one process sort in the order of their creation. Random bits are read from
    the system in blocks: a system call per id would cost more than everything else.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._last_ms = 0
        self._sequence = 0
        self._pool: list[int] = []
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._forget_parent)

    def new(self) -> str:
        with self._lock:
            ms = max(time.time_ns() // 1_000_000, self._last_ms)
            if ms == self._last_ms:
                self._sequence += 1
                if self._sequence >> _SEQUENCE_BITS:
                    ms, self._sequence = ms + 1, 0
            else:
                self._sequence = 0
            self._last_ms = ms
            sequence, noise = self._sequence, self._noise()
        return _uuid7(ms, sequence, noise)

    def _noise(self) -> int:
        if not self._pool:
            self._pool = list(_BLOCK.unpack(os.urandom(_BLOCK.size)))
        return self._pool.pop()

    def _forget_parent(self) -> None:
        """In a forked child: use no random bits of the parent, and no lock that another thread held."""
        self._pool, self._lock = [], Lock()


def _uuid7(ms: int, sequence: int, noise: int) -> str:
    variant = noise >> 48 & 0x3FFF | 0x8000
    parts = (ms >> 16, ms & 0xFFFF, sequence, variant, noise & 0xFFFF_FFFF_FFFF)
    return "%08x-%04x-7%03x-%04x-%012x" % parts  # noqa: UP031 - half the time of an f-string


new_id = _Ids().new


def new_secret(size: int = 32) -> str:
    """``size`` random bytes as base64url text: nobody can guess it."""
    return base64.urlsafe_b64encode(os.urandom(size)).rstrip(b"=").decode()


def derived_id(seconds: float, source: bytes) -> str:
    """The UUIDv7 of a time and a ``source``, without randomness: the same in every process."""
    digest = hashlib.blake2b(b"%d\0%b" % (round(seconds * 1000), source), digest_size=10).digest()
    sequence = int.from_bytes(digest[:2]) % (1 << _SEQUENCE_BITS)
    return _uuid7(round(seconds * 1000), sequence, int.from_bytes(digest[2:]))


def following_id(first: str, index: int) -> str:
    """The UUIDv7 at ``index`` (from 0) in the sequence after ``first``: the same in every process.

    The ids of the sequence sort after ``first``, in the order of their index.
    """
    ms, sequence = divmod(index, 1 << _SEQUENCE_BITS)
    ms += int(first.replace("-", "")[:12], 16) + 1
    digest = hashlib.blake2b(b"%b %d" % (first.encode(), index), digest_size=8).digest()
    return _uuid7(ms, sequence, int.from_bytes(digest))


def to_datetime(seconds: float) -> datetime:
    """Seconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def from_datetime(moment: datetime) -> float:
    """An aware datetime as seconds since the epoch; a naive one is taken as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
