"""What the server is set to, and what that means: looked at when a store is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raincheck.core.errors import StoreUnusable

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}
FSYNC_SINCE = (7, 2)
"""The first with WAITAOF."""

Settings = Mapping[str, Any]
"""What INFO answers; and ``appendfsync``, if the server lets us ask for it."""


_POWER_CUT = {
    "everysec": "appendfsync is everysec: a power cut may cost the last second of acknowledged jobs",
    "no": "appendfsync is no: a power cut may cost acknowledged jobs, by half a minute or more",
    None: "appendfsync cannot be seen: unless it is always, a power cut may cost acknowledged jobs",
}


def check(info: Settings, ack: str, *, cluster: bool = False) -> list[str]:
    """What is to be warned of. Raises `StoreUnusable` for a server that cannot keep what is asked of it.

    ``cluster`` says that the URL is one of a cluster.
    """
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version", "0"))
    oldest = FSYNC_SINCE if ack == "fsync" else OLDEST[kind]
    if _numbers(version) < oldest:
        what = "ack=fsync" if _numbers(version) >= OLDEST[kind] else "raincheck"
        needed = ".".join(map(str, oldest))
        raise StoreUnusable(f"the server is {kind} {version}: {what} needs {needed} or newer")
    if info.get("cluster_enabled") == 1 and not cluster:
        raise StoreUnusable(
            "the server is part of a cluster: say redis+cluster://host:port (or rediss+cluster://), "
            "with one or several of its nodes"
        )
    if ack == "fsync" and not info.get("aof_enabled"):
        raise StoreUnusable("ack=fsync needs a server with appendonly yes: this one syncs nothing to disk")
    if ack == "fsync" and info.get("appendfsync") == "no":
        raise StoreUnusable(
            "ack=fsync needs appendfsync always or everysec: with no, nothing is acknowledged"
        )
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
    elif ack == "local" and (warning := _POWER_CUT.get(info.get("appendfsync"))):
        yield f"{warning}; set it to always, or give ack=fsync to wait for the disk"
    if ack == "replicated" and not info.get("connected_slaves"):
        yield "ack=replicated, but no replica is connected: nothing will be acknowledged until one is"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
