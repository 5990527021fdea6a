"""The HTTP client for URLs that come from configuration.

It resolves a host once, checks every address, and connects to one of those. It follows no redirects, uses no
proxies, and reads no more of a response than it is told to.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Self

import httpcore2
import httpx2
from msgspec import Struct

from raincheck.core.errors import AddressNotAllowed, RequestFailed
from raincheck.egress.addresses import AllowedNetworks, parse_address

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host, for a port. Raises `OSError`."""

CONNECT_TIMEOUT = 10.0
"""Seconds in which a host must be resolved and a connection be made."""

KEEP_ALIVE = 1.0
"""Seconds for which an idle connection is kept: shorter than servers do, so that none is closed in use."""

MAX_IDLE = 20
"""Idle connections that are kept. For each request, all of them are looked at."""

MAX_ERROR_BODY = 16 * 1024
"""Bytes of the body of a response without success that are read."""

_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)\.?")


class Target(Struct, frozen=True):
    """A URL that requests may be sent to, if its addresses are allowed."""

    scheme: bytes
    host: str
    port: int
    path: bytes
    """With the query."""
    netloc: bytes
    """The value of ``Host``."""


class Response(Struct, frozen=True):
    """A response; the names of ``headers`` are in lower case. ``is_cut``: the body is longer."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool

    @property
    def phrase(self) -> str:
        """The status and its name."""
        known = self.status in HTTPStatus.__members__.values()
        return f"{self.status} {HTTPStatus(self.status).phrase}" if known else str(self.status)


def parse_url(text: str) -> Target:
    """The target of a URL. Raises `ValueError`; the message does not contain the URL, which can be secret."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise ValueError("is not a valid URL") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if url.userinfo:
        raise ValueError("must not contain a user name or a password")
    if url.fragment:
        raise ValueError("must not contain a fragment (#...)")
    host = url.raw_host.decode("ascii")
    if not (_HOST.fullmatch(host) or (":" in host and parse_address(host) and "%" not in host)):
        raise ValueError("has no valid host")
    if _NUMBER.fullmatch(host) and parse_address(host) is None:
        raise ValueError("has a number as its host: write an IPv4 address as four decimal numbers")
    port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
    if not 0 < port < 65536:
        raise ValueError("has a port that is not between 1 and 65535")
    return Target(url.raw_scheme, host, port, url.raw_path, url.netloc)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system resolves it. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class Egress:
    """Sends requests to allowed addresses.

    It is used inside ``async with``, on any number of event loops: the connections of a loop are pooled until
    the last block of that loop is left.
    """

    def __init__(self, allowed: AllowedNetworks, resolve: Resolve = resolve) -> None:
        self._backend = _CheckedBackend(allowed, resolve)
        self._pools: dict[asyncio.AbstractEventLoop, httpcore2.AsyncConnectionPool] = {}
        self._users: Counter[asyncio.AbstractEventLoop] = Counter()

    async def __aenter__(self) -> Self:
        tls = await asyncio.to_thread(httpcore2.default_ssl_context)  # it can read certificates
        loop = asyncio.get_running_loop()
        self._users[loop] += 1
        if self._users[loop] == 1:
            self._pools[loop] = httpcore2.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=None,
                max_keepalive_connections=MAX_IDLE,
                keepalive_expiry=KEEP_ALIVE,
                network_backend=self._backend,
            )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        loop = asyncio.get_running_loop()
        self._users[loop] -= 1
        if not self._users[loop]:
            del self._users[loop]
            await self._pools.pop(loop).aclose()

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes, limit: int) -> Response:
        """Send a request, and read at most ``limit`` bytes of the body of its response.

        Raises `AddressNotAllowed`, or `RequestFailed` if there was no complete response. A caller that is
        cancelled closes the connection.
        """
        url = httpcore2.URL(
            scheme=target.scheme, host=target.host.encode(), port=target.port, target=target.path
        )
        all_headers = [(b"Host", target.netloc), (b"Accept-Encoding", b"identity")]
        all_headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        pool = self._pools[asyncio.get_running_loop()]
        timeouts = {"timeout": {"connect": CONNECT_TIMEOUT}}
        sending = pool.stream("POST", url, headers=all_headers, content=body, extensions=timeouts)
        with _mapped_errors(target):
            async with sending as response:
                return await _read(response, limit)


async def _read(response: httpcore2.Response, limit: int) -> Response:
    """A response, with at most ``limit`` bytes of its body."""
    if not 200 <= response.status < 300:
        limit = min(limit, MAX_ERROR_BODY)
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > limit:
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Response(response.status, headers, bytes(content[:limit]), len(content) > limit)


@contextmanager
def _mapped_errors(target: Target) -> Iterator[None]:
    """Raise the errors of the HTTP library as `RequestFailed`."""
    try:
        yield
    except httpcore2.TimeoutException:
        why = f"no connection within {CONNECT_TIMEOUT:g} s"
        raise RequestFailed(why, peer=target.netloc.decode()) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise RequestFailed(str(error) or type(error).__name__, peer=target.netloc.decode()) from None


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that have been checked: the host is not resolved again."""

    def __init__(self, allowed: AllowedNetworks, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that accepts a connection."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
                refusals = [why for each in addresses if (why := self._allowed.refusal(each)) is not None]
                if refusals:  # one is enough: a name with public and private addresses is suspicious
                    raise AddressNotAllowed(refusals[0], peer=host)
                return await self._connect_to_any(addresses, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None
        except OSError as error:
            raise httpcore2.ConnectError(f"the host cannot be resolved: {_reason(error)}") from None

    async def _connect_to_any(self, addresses: list[str], port: int) -> httpcore2.AsyncNetworkStream:
        error: httpcore2.ConnectError | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port)
            except httpcore2.ConnectError as refused:
                error = error or refused
        why = "the host has no address" if error is None else f"no connection: {_reason(error)}"
        raise httpcore2.ConnectError(why)


def _reason(error: BaseException) -> str:
    """Why a call of the system failed, as the system names it."""
    while error.__cause__ is not None:
        error = error.__cause__
    number = getattr(error, "errno", None)
    if number is None or isinstance(error, socket.gaierror):
        return str(getattr(error, "strerror", None) or error)
    return os.strerror(number)
