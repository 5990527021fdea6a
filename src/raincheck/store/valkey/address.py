"""URLs of this store: which server or servers, and how it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis.asyncio as aio
import redis as sync
from msgspec import Struct

from raincheck.errors import StoreUnusable

ACKS = ("local", "fsync", "replicated")
SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", "redis+sentinel", "valkey+sentinel")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster")


class Address(Struct, frozen=True, kw_only=True):
    """A URL taken apart.

    ``namespace`` begins every key; ``shards`` is over how many slots jobs are spread (the same for
    all who use the namespace); ``ack`` is what an acknowledged submit has survived.
    """

    url: str
    scheme: str
    namespace: str = "raincheck"
    shards: int = 1
    ack: str = "local"

    @property
    def cluster(self) -> bool:
        """Whether it leads to a cluster."""
        return self.scheme in CLUSTER_SCHEMES


def parse(url: str) -> Address:
    """Take a URL apart. Raises `StoreUnusable` for one that means nothing."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    ack, namespace = query.pop("ack", "local"), query.pop("namespace", "raincheck")
    cluster = parts.scheme in CLUSTER_SCHEMES
    shards = query.pop("shards", "16" if cluster else "1")
    if ack not in ACKS:
        raise StoreUnusable(f"ack={ack} means nothing: it is one of {', '.join(ACKS)}")
    if not shards.isdigit() or not 1 <= int(shards) <= 256:
        raise StoreUnusable(f"shards={shards}: a number from 1 to 256")
    if "{" in namespace or "}" in namespace or not namespace:
        raise StoreUnusable(f"namespace={namespace!r}: at least one character, no braces")
    if cluster and ack != "local":
        raise StoreUnusable(f"ack={ack} is not to be had from a cluster: its servers acknowledge each for itself")
    scheme = parts.scheme.split("+")[0].replace("valkey", "redis").replace("rediss", "rediss")
    plain = parts._replace(scheme=scheme, query=urlencode(query)).geturl()
    return Address(
        url=plain, scheme=parts.scheme, namespace=namespace, shards=int(shards), ack=ack
    )


def connector(address: Address, module: Any = aio) -> Callable[[], Any]:
    """How to make a client: of `redis.asyncio`, or of `redis` itself for threads."""
    options: dict[str, Any] = {"socket_connect_timeout": 2.0, "socket_keepalive": True, "health_check_interval": 15}
    if address.cluster:
        kind = aio.RedisCluster if module is aio else sync.RedisCluster
        return lambda: kind.from_url(address.url)
    if address.scheme.endswith("+sentinel"):
        return lambda: _sentinel(address, module)
    if address.scheme == "unix":
        options = {}
    return lambda: module.Redis.from_url(address.url, socket_timeout=10.0, **options)


def _sentinel(address: Address, module: Any) -> Any:
    """``redis+sentinel://a:26379,b:26379/service/0``: whoever the sentinels say is the primary."""
    parts = urlsplit(address.url)
    hosts = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    service, _, db = parts.path.lstrip("/").partition("/")
    from redis.asyncio.sentinel import Sentinel as AsyncSentinel
    from redis.sentinel import Sentinel

    kind = AsyncSentinel if module is aio else Sentinel
    options = {"password": parts.password, "username": parts.username, "db": int(db or 0)}
    sentinel = kind(
        [(host, int(port or 26379)) for host, _, port in hosts], socket_timeout=2.0, **options
    )
    return sentinel.master_for(service, socket_timeout=10.0)
