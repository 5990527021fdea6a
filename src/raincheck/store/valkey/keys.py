"""Every key, and how a job's id leads to the shard it lives in: nowhere else is a key put together.

All keys of a shard carry its number as hash tag, so that they live in one slot of a cluster. What is
not of one shard lives with shard 0. The last byte of a job's id (random bits) chooses its shard, and a
checksum that of an idempotency key.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
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
"""In the order of their keys and of their number in a record's header."""

_FIXED = (
    *("jobs", "leases", "until", "progress", "wake", "prune", "gone", "meta", "queued", "served"),
    *("idempotency", "idempotency-until", "results"),
)


def packed(job_id: str) -> bytes:
    """A UUID as its 16 bytes. Raises `ValueError` for anything else, also for one in another spelling."""
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
    """4 bytes that stand for a job's name, its group or a function of it; others may have the same."""
    return hashlib.blake2b(f"{kind}:{value}".encode(), digest_size=4).digest()


@lru_cache(4096)
def tags(name: str, functions: tuple[str, ...], group: str | None) -> bytes:
    """All tags of a job; they stay the same for its whole life."""
    found = {tag("function", function) for function in functions}
    if group is not None:
        found.add(tag("group", group))
    return tag("name", name) + b"".join(sorted(found))


class ShardKeys:
    """The keys of one shard. ``fixed``: what every script gets first, in the order of ``head.lua``."""

    def __init__(self, namespace: str, number: int) -> None:
        self._prefix = f"{namespace}:{{{number}}}:"
        self.number = number
        self.queue = lru_cache(4096)(self._queue)
        self.leases = self._prefix + "leases"
        self.ready = self._prefix + "ready:"
        self.nothing = self._prefix + "nothing"
        """No such key is ever made: named, it keeps a script off a slot that is just being moved."""
        self.fixed = [self._prefix + name for name in _FIXED] + [self.state(state) for state in STATES]

    def _queue(self, function: str) -> tuple[str, str]:
        """Where ready places of a function wait, and where those wait that are due later."""
        return self.ready + function, f"{self._prefix}later:{function}"

    def answer(self, caller: str) -> str:
        """The last answer to a caller, should it ask again; it expires by itself."""
        return f"{self._prefix}answer:{caller}"

    def state(self, state: State) -> str:
        """The ids of the jobs in this state at rest, each with its tags."""
        return f"{self._prefix}state:{state}"


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace: str, shards: int) -> None:
        self.shards = [ShardKeys(namespace, number) for number in range(shards)]
        self.bell = f"{namespace}:bell"
        self.config = f"{namespace}:{{0}}:config"
        self.workers = [f"{namespace}:{{0}}:workers", f"{namespace}:{{0}}:workers-until"]
        self.schedules = [f"{namespace}:{{0}}:schedules", f"{namespace}:{{0}}:schedules-due"]

    def shard_of(self, raw_id: bytes) -> ShardKeys:
        """The shard of a job."""
        return self.shards[raw_id[-1] % len(self.shards)]

    def shard_of_key(self, name: bytes) -> ShardKeys:
        """The shard of an idempotency key."""
        return self.shards[crc32(name) % len(self.shards)]
