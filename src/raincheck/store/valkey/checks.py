"""What the server is set to, and what that means: looked at when a store is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raincheck.errors import StoreUnusable

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}

Settings = Mapping[str, Any]
"""What INFO answers."""


def check(info: Settings, ack: str, *, cluster: bool = False) -> list[str]:
    """What is to be warned of. Raises `StoreUnusable` for a server that cannot keep what is asked of it.

    ``cluster`` says that the URL is one of a cluster.
    """
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version", "0"))
    if _numbers(version) < OLDEST[kind]:
        oldest = ".".join(map(str, OLDEST[kind]))
        raise StoreUnusable(f"the server is {kind} {version}; {oldest} is the oldest that works")
    if info.get("cluster_enabled") == 1 and not cluster:
        raise StoreUnusable(
            "the server is part of a cluster: say redis+cluster://host:port (or rediss+cluster://), "
            "with one or several of its nodes"
        )
    if ack == "fsync" and not info.get("aof_enabled"):
        raise StoreUnusable("ack=fsync needs a server with appendonly yes: this one syncs nothing to disk")
    return list(_warnings(info, ack))


def _warnings(info: Settings, ack: str) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: when its memory is full, the server deletes jobs that were "
            "acknowledged; set it to noeviction, and it refuses new ones instead"
        )
    if not info.get("aof_enabled"):
        yield (
            "appendonly is no: acknowledged jobs survive a crash of servers and workers, but not of the "
            "store; set it to yes"
        )
    elif ack == "local":
        yield (
            "ack=local: with appendfsync everysec a power cut may cost the last second of acknowledged "
            "jobs; ack=fsync waits for the disk"
        )
    if ack == "replicated" and not info.get("connected_slaves"):
        yield "ack=replicated, but no replica is connected: nothing will be acknowledged until one is"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
