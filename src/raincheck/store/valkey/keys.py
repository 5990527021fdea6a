"""Every key, and how a job's id leads to the shard it lives in: nowhere else is a key put together.

All keys of a shard carry its number as hash tag, so that they live in one slot of a cluster, and one
script may touch them all. The last byte of a job's id (random bits of a UUIDv7) chooses its shard.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

from raincheck.model import State

STATES = (State.SCHEDULED, State.PENDING, State.RETRYING, State.DONE, State.FAILED, State.CANCELLED)
"""In the order of their keys and of their number in a record's header."""

ENDED_FROM = STATES.index(State.DONE)


def packed(job_id: str) -> bytes:
    """A UUID as its 16 bytes. Raises `ValueError` for anything else."""
    if len(job_id) != 36:
        raise ValueError(job_id)
    return bytes.fromhex(job_id.replace("-", ""))


def unpacked(raw: bytes) -> str:
    """16 bytes as a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class ShardKeys:
    """The keys of one shard."""

    def __init__(self, namespace: str, number: int) -> None:
        self._prefix = f"{namespace}:{{{number}}}:"
        self.number = number
        self.queue = lru_cache(4096)(self._queue)
        self.index = lru_cache(4096)(self._index)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _queue(self, function: str) -> tuple[str, str]:
        """Where ready places of a function wait, and where those wait that are due later."""
        return self._key(f"ready:{function}"), self._key(f"later:{function}")

    def _index(self, kind: str, name: str) -> str:
        """The ids of the jobs with this name, or with a step of this function."""
        return self._key(f"{kind}:{name}")

    @cached_property
    def fixed(self) -> list[str]:
        """The keys that every script gets first, in the order of ``keys.lua``."""
        names = ("jobs", "leases", "until", "progress", "all", "wake", "prune", "gone")
        names += ("idempotency", "idempotency-until", "meta", "queued")
        return [self._key(name) for name in names] + [self.state(state) for state in STATES]

    def claimed(self, worker: str) -> str:
        """What a worker was given last; it expires by itself."""
        return self._key(f"claimed:{worker}")

    def state(self, state: State) -> str:
        """The ids of the jobs in this state at rest."""
        return self._key(f"state:{state}")


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace: str, shards: int) -> None:
        self.shards = [ShardKeys(namespace, number) for number in range(shards)]
        self.bell = f"{namespace}:bell"
        self.config = f"{namespace}:{{config}}:config"
        self.workers = f"{namespace}:{{config}}:workers"
        self.workers_until = f"{namespace}:{{config}}:workers-until"

    def shard_of(self, raw_id: bytes) -> ShardKeys:
        """The shard of a job."""
        return self.shards[raw_id[-1] % len(self.shards)]
