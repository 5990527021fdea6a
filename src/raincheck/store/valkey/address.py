"""URLs of this store: which server, and how it is used."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from msgspec import Struct
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from raincheck.errors import StoreUnusable

ACKS = ("local", "fsync", "replicated")
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")

CONNECT_TIMEOUT = 2.0
TIMEOUT = 5.0
"""Seconds without an answer after which a connection is given up."""


class Address(Struct, frozen=True, kw_only=True):
    """A URL taken apart.

    ``namespace`` begins every key; ``shards`` is over how many slots jobs are spread (the same for
    all who use the namespace); ``ack`` is what an acknowledged commit has survived.
    """

    url: str
    namespace: str
    shards: int
    ack: str


def parse(url: str) -> Address:
    """Take a URL apart. Raises `StoreUnusable` for one that means nothing."""
    parts = urlsplit(url)
    scheme = parts.scheme.replace("valkey", "redis", 1)
    if scheme.endswith("+cluster"):
        raise StoreUnusable("a cluster cannot be used yet: give a single server, or redis+sentinel://")
    if scheme not in SCHEMES:
        raise StoreUnusable(
            f"{parts.scheme}:// is not known; one of {', '.join(f'{s}://' for s in SCHEMES)} is"
        )
    query = dict(parse_qsl(parts.query))
    ack, namespace, shards = (
        query.pop(name, default)
        for name, default in (("ack", "local"), ("namespace", "raincheck"), ("shards", "1"))
    )
    if ack not in ACKS:
        raise StoreUnusable(f"ack={ack} means nothing: it is one of {', '.join(ACKS)}")
    if not (shards.isascii() and shards.isdigit() and 1 <= int(shards) <= 256):
        raise StoreUnusable(f"shards={shards}: a number from 1 to 256")
    if "{" in namespace or "}" in namespace or not namespace:
        raise StoreUnusable(f"namespace={namespace!r}: at least one character, no braces")
    plain = parts._replace(scheme=scheme, query=urlencode(query)).geturl()
    return Address(url=plain, namespace=namespace, shards=int(shards), ack=ack)


def connect(address: Address) -> Redis:
    """A client that sends nothing twice by itself: we know what may be repeated, and say that it is."""
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 15,
    }
    try:
        if urlsplit(address.url).scheme.endswith("+sentinel"):
            return _sentinel(address.url, options)
        return Redis.from_url(address.url, **options)
    except (ValueError, TypeError) as error:
        raise StoreUnusable(f"the URL of the store cannot be used: {error}") from error


def _sentinel(url: str, options: dict[str, Any]) -> Redis:
    """``redis+sentinel://a:26379,b:26379/service/0``: whoever the sentinels say is the primary."""
    parts = urlsplit(url)
    hosts = [host.partition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    service, _, db = parts.path.lstrip("/").partition("/")
    if not service:
        raise ValueError("it must name the service: redis+sentinel://host:26379/SERVICE")
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    make: Any = Sentinel  # it ships without types
    sentinel = make([(host, int(port or 26379)) for host, _, port in hosts], sentinel_kwargs=dict(options))
    password = None if parts.password is None else unquote(parts.password)
    username = unquote(parts.username) if parts.username else None
    client: Redis = sentinel.master_for(
        service, db=int(db or 0), username=username, password=password, **options
    )
    return client
