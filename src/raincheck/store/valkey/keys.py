"""The keys of a namespace, the shard of each job, and the scripts. No other module builds a key.

All keys of a shard have its number as hash tag, so a cluster keeps them in one slot. Keys that belong to no
shard are with shard 0. The last byte of a job id (random bits) selects its shard; a checksum selects the
shard of an idempotency key.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple
from zlib import crc32

from raincheck.core.model import State

STATES = (
    State.SCHEDULED,
    State.PENDING,
    State.RETRYING,
    State.DONE,
    State.FAILED,
    State.CANCELLED,
    State.DOING,
)
"""In the order of their keys and of their number in the header of a record."""

_FIXED = (
    *("jobs", "leases", "until", "progress", "wake", "prune", "gone", "meta", "queued", "served"),
    *("idempotency", "idempotency-until", "results"),
)


def packed(job_id: str) -> bytes:
    """A UUID as 16 bytes. Raises `ValueError` for other text, also for a UUID in another spelling."""
    raw = bytes.fromhex(job_id.replace("-", "")) if len(job_id) == 36 else b""
    if len(raw) != 16 or unpacked(raw) != job_id:
        raise ValueError(f"{job_id!r} is not the id of a job")
    return raw


def unpacked(raw: bytes) -> str:
    """16 bytes as a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@lru_cache(4096)
def tag(kind: str, value: str) -> bytes:
    """A digest of 4 bytes of a job's name, group or function; different values can have the same."""
    return hashlib.blake2b(f"{kind}:{value}".encode(), digest_size=4).digest()


@lru_cache(4096)
def tags(name: str, functions: tuple[str, ...], group: str | None) -> bytes:
    """All tags of a job. They never change."""
    found = {tag("function", function) for function in functions}
    if group is not None:
        found.add(tag("group", group))
    return tag("name", name) + b"".join(sorted(found))


class ShardKeys:
    """The keys of one shard. ``fixed`` are the first keys of every script, in the order of ``head.lua``."""

    def __init__(self, namespace: str, number: int) -> None:
        self._prefix = f"{namespace}:{{{number}}}:"
        self.number = number
        self.queue = lru_cache(4096)(self._queue)
        self.leases = self._prefix + "leases"
        self.ready = self._prefix + "ready:"
        self.journals = self._prefix + "journals"
        self.absent = self._prefix + "nothing"
        """A key that never exists: as a key of a script, it delays the script while its slot is moved."""
        self.fixed = [
            *(self._prefix + name for name in _FIXED),
            *(f"{self._prefix}state:{state}" for state in STATES),
        ]

    def _queue(self, function: str) -> tuple[str, str]:
        """The queue of a function: the ready entries, and the entries that are due later."""
        return self.ready + function, f"{self._prefix}later:{function}"

    def reply(self, call: str) -> str:
        """The recorded reply of a script call; it expires."""
        return f"{self._prefix}answer:{call}"


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace: str, shards: int) -> None:
        self.shards = [ShardKeys(namespace, number) for number in range(shards)]
        self.channel = f"{namespace}:bell"
        self.config = f"{namespace}:{{0}}:config"
        self.workers = [f"{namespace}:{{0}}:workers", f"{namespace}:{{0}}:workers-until"]
        self.schedules = [f"{namespace}:{{0}}:schedules", f"{namespace}:{{0}}:schedules-due"]

    def shard_of(self, raw_id: bytes) -> ShardKeys:
        """The shard of a job."""
        return self.shards[raw_id[-1] % len(self.shards)]

    def shard_of_key(self, name: bytes) -> ShardKeys:
        """The shard of an idempotency key."""
        return self.shards[crc32(name) % len(self.shards)]


class Script(NamedTuple):
    """The source of a script and its SHA-1, by which the server identifies it.

    ``records_reply``: it gets a token and a key for its reply, so that a repeated call gets the same reply.
    ``durable``: its reply counts only after the write was acknowledged (``ack`` in the URL).
    """

    source: str
    sha: str
    records_reply: bool
    durable: bool


_RECORD_REPLY = {"commit", "claim", "remove", "schedule", "reserve"}
_DURABLE = {"commit", "reserve", "void"}


@cache
def scripts() -> dict[str, Script]:
    """Every script by name. The first call reads files: do not make it on an event loop."""
    here = resources.files(__package__)
    head = (here / "head.lua").read_text(encoding="utf-8")
    return _read(here, head) | _read(here / "cluster", head)


def _read(folder: Traversable, head: str) -> dict[str, Script]:
    found = {}
    for file in folder.iterdir():
        name, _, suffix = file.name.partition(".")
        if suffix == "lua" and name != "head":
            source = head + file.read_text(encoding="utf-8")
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            found[name] = Script(source, sha, name in _RECORD_REPLY, name in _DURABLE)
    return found
