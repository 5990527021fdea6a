"""URLs of this store: which servers, and how to use them; and whether the settings of a server fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
"""Enough to spread the load over a few nodes, few enough for a claim that reads them all."""

CONNECT_TIMEOUT = 2.0
TIMEOUT = 5.0
"""Seconds without a reply after which a connection is closed."""

SENTINEL_TIMEOUT = 0.5
"""The same for a Sentinel: another one can answer."""

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}
FSYNC_SINCE = (7, 2)
"""The first version with WAITAOF."""

_POWER_FAILURE = {
    "everysec": "appendfsync is everysec: a power failure can lose the last second of acknowledged jobs",
    "no": "appendfsync is no: a power failure can lose acknowledged jobs of half a minute or more",
    None: "appendfsync cannot be seen: unless it is always, a power failure can lose acknowledged jobs",
}


class HostPort(NamedTuple):
    """The host and port of a server."""

    host: str
    port: int


class Address(Struct, frozen=True, kw_only=True):
    """A parsed URL.

    ``namespace`` is the prefix of every key. ``shards`` is the number of slots over which jobs are spread;
    all users of a namespace need the same. ``ack`` says what an acknowledged commit survives. ``nodes`` are
    the Sentinels, or some nodes of the cluster.
    """

    url: str
    namespace: str
    shards: int
    ack: str
    form: str
    nodes: tuple[HostPort, ...]

    @property
    def is_cluster(self) -> bool:
        """Whether it is the URL of a cluster."""
        return self.form == "cluster"


def parse(url: str) -> Address:
    """Parse a URL. Raises `StoreUnusable` if it is invalid."""
    parts = urlsplit(url)
    scheme = parts.scheme.replace("valkey", "redis", 1)
    if scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES)
        raise StoreUnusable(f"{parts.scheme}:// is not known; use one of {known}")
    form = scheme.partition("+")[2]
    query = dict(parse_qsl(parts.query))
    ack = query.pop("ack", "local")
    namespace = query.pop("namespace", "raincheck")
    shards = query.pop("shards", str(CLUSTER_SHARDS) if form == "cluster" else "1")
    if ack not in ACKS:
        raise StoreUnusable(f"ack={ack} is not known; use one of {', '.join(ACKS)}")
    if not (shards.isascii() and shards.isdigit() and 1 <= int(shards) <= 256):
        raise StoreUnusable(f"shards={shards} is invalid; use a number from 1 to 256")
    if "{" in namespace or "}" in namespace or not namespace:
        raise StoreUnusable(f"namespace={namespace!r} is invalid; use at least one character, and no braces")
    plain = parts._replace(scheme=scheme, query=urlencode(query))
    nodes = _nodes(plain, PORTS[form]) if form else ()
    if form == "cluster" and parts.path.strip("/") not in ("", "0"):
        raise StoreUnusable(f"a cluster has one database, 0: remove {parts.path} from the URL")
    return Address(
        url=plain.geturl(), namespace=namespace, shards=int(shards), ack=ack, form=form, nodes=nodes
    )


def _nodes(parts: SplitResult, port: int) -> tuple[HostPort, ...]:
    """``a:1,b,[::1]:2`` in a URL, each with its port or the default one."""
    scheme = parts.scheme.partition("+")[0]
    nodes = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"{scheme}://{text}")
            node = HostPort(one.hostname or "", one.port or port)
        except ValueError as error:
            raise StoreUnusable(f"{text!r} is not host:port: {error}") from error
        if not node.host:
            raise StoreUnusable(f"the URL must name hosts: {parts.scheme}://host:{port},host2:{port}")
        nodes.append(node)
    return tuple(nodes)


def make_pool(address: Address, node: HostPort | None = None) -> ConnectionPool:
    """A factory of connections for one event loop. They send no command twice.

    ``node`` is the cluster node to connect to. Raises `StoreUnusable` for invalid options in the URL.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "driver_info": None,  # otherwise redis-py reads files for its version at each connection
    }
    if not address.url.startswith("unix:"):
        options["socket_keepalive"] = True
    try:
        if address.form == "sentinel":
            pool = _sentinel_pool(address, options)
        else:
            url = address.url if node is None else _node_url(address, node)
            pool = ConnectionPool.from_url(url, **options)
    except (ValueError, TypeError) as error:
        raise StoreUnusable(f"invalid store URL: {error}") from error
    pool.connection_kwargs["protocol"] = 2  # replies are lists and bytes from every server
    return pool


def _node_url(address: Address, node: HostPort) -> str:
    """The URL of one node of a cluster."""
    parts = urlsplit(address.url)
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{node.host}]" if ":" in node.host else node.host
    scheme = parts.scheme.partition("+")[0]
    return parts._replace(scheme=scheme, netloc=f"{user}{at}{host}:{node.port}", path="").geturl()


def _sentinel_pool(address: Address, options: dict[str, Any]) -> ConnectionPool:
    """``redis+sentinel://a:26379,b:26379/service/0``: the primary that the Sentinels name.

    Options in the query are for all servers. User and password are those of the primary; those of the
    Sentinels are ``sentinel_username`` and ``sentinel_password``.
    """
    parts = urlsplit(address.url)
    service, _, db = parts.path.lstrip("/").partition("/")
    if not service:
        raise ValueError("it must name the service: redis+sentinel://host:26379/SERVICE")
    untyped_parse_url: Any = parse_url
    untyped_sentinel: Any = Sentinel
    in_url: dict[str, Any] = untyped_parse_url(f"redis://?{parts.query}")
    login = {name: in_url.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    options |= in_url
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    timeouts = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
    sentinel = untyped_sentinel(address.nodes, sentinel_kwargs=options | timeouts | login)
    password = None if parts.password is None else unquote(parts.password)
    username = unquote(parts.username) if parts.username else None
    client = sentinel.master_for(service, db=int(db or 0), username=username, password=password, **options)
    pool: ConnectionPool = client.connection_pool
    return pool


def check_settings(info: Mapping[str, Any], ack: str, *, is_cluster: bool = False) -> list[str]:
    """Warnings about a server, from its INFO and its ``appendfsync`` (missing: the server hides it).

    ``is_cluster``: the URL is one of a cluster. Raises `StoreUnusable` for a server that cannot be used.
    """
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version", "0"))
    oldest = FSYNC_SINCE if ack == "fsync" else OLDEST[kind]
    if _numbers(version) < oldest:
        what = "ack=fsync" if _numbers(version) >= OLDEST[kind] else "raincheck"
        needed = ".".join(map(str, oldest))
        raise StoreUnusable(f"the server is {kind} {version}: {what} needs {needed} or newer")
    if info.get("cluster_enabled") == 1 and not is_cluster:
        raise StoreUnusable(
            "the server is part of a cluster: use redis+cluster://host:port (or rediss+cluster://), "
            "with one or more of its nodes"
        )
    if ack == "fsync" and not info.get("aof_enabled"):
        raise StoreUnusable("ack=fsync needs a server with appendonly yes: this one has appendonly no")
    if ack == "fsync" and info.get("appendfsync") == "no":
        raise StoreUnusable("ack=fsync needs a server with appendfsync always or everysec: this one has no")
    return list(_warnings(info, ack))


def _warnings(info: Mapping[str, Any], ack: str) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: a full server deletes jobs, also acknowledged ones; "
            "set noeviction, so that it refuses new jobs instead"
        )
    if not info.get("aof_enabled"):
        yield (
            "appendonly is no: acknowledged jobs survive a crash of servers and workers, but not of the "
            "store; set it to yes"
        )
    elif ack == "local" and (warning := _POWER_FAILURE.get(info.get("appendfsync"))):
        yield f"{warning}; set it to always, or use ack=fsync to wait for the disk"
    if ack == "replicated" and not info.get("connected_slaves"):
        yield "ack=replicated, but no replica is connected: no write is acknowledged until one connects"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
