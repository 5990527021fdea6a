"""URLs of this store: which servers, and how they are used."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from msgspec import Struct
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from raincheck.core.errors import StoreUnusable

ACKS = ("local", "fsync", "replicated")
PLAIN = ("redis", "rediss", "unix")
PORTS = {"sentinel": 26379, "cluster": 6379}
SCHEMES = (*PLAIN, *(f"{scheme}+{form}" for form in PORTS for scheme in PLAIN[:2]))

CLUSTER_SHARDS = 16
"""Enough that a cluster of a few nodes shares the load, few enough that a claim can look at all."""

CONNECT_TIMEOUT = 2.0
TIMEOUT = 5.0
"""Seconds without an answer after which a connection is given up."""

SENTINEL_TIMEOUT = 0.5
"""The same for a sentinel: there are others to ask."""


class HostPort(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Address(Struct, frozen=True, kw_only=True):
    """A URL taken apart.

    ``namespace`` begins every key; ``shards`` is over how many slots jobs are spread (the same for
    all who use the namespace); ``ack`` is what an acknowledged commit has survived. ``places`` are
    those of the sentinels, or of some nodes of the cluster, that the URL names.
    """

    url: str
    namespace: str
    shards: int
    ack: str
    form: str
    places: tuple[HostPort, ...]

    @property
    def cluster(self) -> bool:
        """Whether it is a cluster."""
        return self.form == "cluster"


def parse(url: str) -> Address:
    """Take a URL apart. Raises `StoreUnusable` for one that means nothing."""
    parts = urlsplit(url)
    scheme = parts.scheme.replace("valkey", "redis", 1)
    if scheme not in SCHEMES:
        raise StoreUnusable(
            f"{parts.scheme}:// is not known; one of {', '.join(f'{s}://' for s in SCHEMES)} is"
        )
    form = scheme.partition("+")[2]
    query = dict(parse_qsl(parts.query))
    ack, namespace, shards = (
        query.pop(name, default)
        for name, default in (
            ("ack", "local"),
            ("namespace", "raincheck"),
            ("shards", str(CLUSTER_SHARDS) if form == "cluster" else "1"),
        )
    )
    if ack not in ACKS:
        raise StoreUnusable(f"ack={ack} means nothing: it is one of {', '.join(ACKS)}")
    if not (shards.isascii() and shards.isdigit() and 1 <= int(shards) <= 256):
        raise StoreUnusable(f"shards={shards}: a number from 1 to 256")
    if "{" in namespace or "}" in namespace or not namespace:
        raise StoreUnusable(f"namespace={namespace!r}: at least one character, no braces")
    plain = parts._replace(scheme=scheme, query=urlencode(query))
    places = _places(plain, PORTS[form]) if form else ()
    if form == "cluster" and parts.path.strip("/") not in ("", "0"):
        raise StoreUnusable(f"a cluster has one database, 0, and so the URL cannot name {parts.path}")
    return Address(
        url=plain.geturl(), namespace=namespace, shards=int(shards), ack=ack, form=form, places=places
    )


def _places(parts: SplitResult, port: int) -> tuple[HostPort, ...]:
    """``a:1,b,[::1]:2`` of a URL, each with its port."""
    scheme = parts.scheme.partition("+")[0]
    places = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"{scheme}://{each}")
            place = HostPort(one.hostname or "", one.port or port)
        except ValueError as error:
            raise StoreUnusable(f"{each!r} is no host:port: {error}") from error
        if not place.host:
            raise StoreUnusable(f"the URL must name hosts: {parts.scheme}://host:{port},host2:{port}")
        places.append(place)
    return tuple(places)


def make_pool(address: Address, place: HostPort | None = None) -> ConnectionPool:
    """What makes connections as the URL says, for one event loop; they send nothing twice by themselves.

    ``place`` says which node of a cluster they are for. Raises `StoreUnusable` for options that mean nothing.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "driver_info": None,  # to find out its version, redis-py would read files at each connection
    }
    if not address.url.startswith("unix:"):
        options["socket_keepalive"] = True
    try:
        if address.form == "sentinel":
            pool = _sentinel(address, options)
        else:
            url = address.url if place is None else _url_of(address, place)
            pool = ConnectionPool.from_url(url, **options)
    except (ValueError, TypeError) as error:
        raise StoreUnusable(f"the URL of the store cannot be used: {error}") from error
    pool.connection_kwargs["protocol"] = 2  # replies as lists and bytes, whatever the server speaks
    return pool


def _url_of(address: Address, place: HostPort) -> str:
    """The URL of one node of a cluster."""
    parts = urlsplit(address.url)
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{place.host}]" if ":" in place.host else place.host
    scheme = parts.scheme.partition("+")[0]
    return parts._replace(scheme=scheme, netloc=f"{user}{at}{host}:{place.port}", path="").geturl()


def _sentinel(address: Address, options: dict[str, Any]) -> ConnectionPool:
    """``redis+sentinel://a:26379,b:26379/service/0``: whoever the sentinels say is the primary.

    Options in the query are for all servers, user and password for the primary; sentinels have
    ``sentinel_username`` and ``sentinel_password``.
    """
    parts = urlsplit(address.url)
    service, _, db = parts.path.lstrip("/").partition("/")
    if not service:
        raise ValueError("it must name the service: redis+sentinel://host:26379/SERVICE")
    take_apart: Any = parse_url  # these two ship without types
    make: Any = Sentinel
    given: dict[str, Any] = take_apart(f"redis://?{parts.query}")
    login = {name: given.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    options |= given
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    asking = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
    sentinel = make(address.places, sentinel_kwargs=options | asking | login)
    password = None if parts.password is None else unquote(parts.password)
    username = unquote(parts.username) if parts.username else None
    client = sentinel.master_for(service, db=int(db or 0), username=username, password=password, **options)
    pool: ConnectionPool = client.connection_pool
    return pool
