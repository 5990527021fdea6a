"""Sends requests over HTTP: signs them in, and sends them again where that is safe.

`SignIn` holds one token for all requests. It renews the token before it expires or if the server refuses it.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Awaitable, Callable
from math import inf

import httpx2

from raincheck.client.asynchronous.compat import Lock, TokenSource, fetch_token, run_in_thread, sleep
from raincheck.client.backoff import Backoff, NoResponse
from raincheck.client.requests import Request, is_local, token_request
from raincheck.client.responses import Reply, error_from
from raincheck.client.token import Login, Token, TokenResponse, parse_token, token_from
from raincheck.core.clock import monotonic
from raincheck.core.errors import ConfigError, Unreachable

Send = Callable[[Request], Awaitable[Reply]]

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)
_INVALID = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
"""Errors of the request itself: it would fail again."""

_UNAUTHORIZED = 401

_LIMITS = httpx2.Limits(max_connections=500, max_keepalive_connections=100)
"""Each waiting request has its own connection; requests over the limit wait for a free one."""


class AsyncSender:
    """Sends requests to one server."""

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource | None,
        login: Login | None,
        patience: float,
        timeout: float,
        http: httpx2.AsyncClient | None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._timeout = timeout
        self._owns_http = http is None
        self._is_local = is_local(url)
        self._http = http
        self._lock = Lock()
        self._pid = os.getpid()
        self._inherited: list[object] = []
        fixed, source = (token, None) if token is None or isinstance(token, str) else (None, token)
        self._sign_in = SignIn(self._send_unsigned, login, source, fixed)

    async def aclose(self) -> None:
        """Close the connections, unless the caller supplied them."""
        if self._owns_http and self._http is not None and self._pid == os.getpid():
            await self._http.aclose()
            self._http = None

    async def send(self, request: Request, patience: float | None = None) -> Reply:
        """Send a request, and return its successful response.

        A request is sent again where that is safe, for up to the shorter one of the client's ``patience``
        and the parameter (seconds). Raises the exception for an error response, or
        `Unreachable` if there is no response.
        """
        return await self._send(request, True, inf if patience is None else patience)

    async def _send_unsigned(self, request: Request) -> Reply:
        return await self._send(request, False, inf)

    async def _send(self, request: Request, signed: bool, patience: float) -> Reply:
        if self._pid != os.getpid():
            self._leave_parent()
        backoff = Backoff(min(self._patience, patience))
        while True:
            started_at = monotonic()
            outcome = await (self._send_signed(request) if signed else self._send_once(request, None))
            if isinstance(outcome, Reply) and outcome.ok:
                return outcome
            took = monotonic() - started_at
            delay = backoff.next_delay(request, outcome, took)
            if delay is None:
                raise outcome.error if isinstance(outcome, NoResponse) else error_from(outcome, self.url)
            await sleep(delay)
            request = request.after(took + delay)

    def _leave_parent(self) -> None:
        """In a forked process, forget the connections of the parent, whose responses are not for the child.

        Raises `ConfigError` if they are in a client that the caller supplied.
        """
        if not self._owns_http:
            raise ConfigError("this process was forked: make a new client in it, with its own http")
        self._inherited.append(self._http)  # freed, it could say goodbye to the server for both
        self._pid, self._lock, self._http = os.getpid(), Lock(), None
        self._sign_in.lock = Lock()

    async def _send_signed(self, request: Request) -> Reply | NoResponse:
        token = await self._sign_in.token()
        outcome = await self._send_once(request, token)
        refused = isinstance(outcome, Reply) and outcome.status == _UNAUTHORIZED
        if not refused or not self._sign_in.is_renewable:
            return outcome
        return await self._send_once(request, await self._sign_in.token(refused=token))

    async def _send_once(self, request: Request, token: str | None) -> Reply | NoResponse:
        http = await self._connections()
        try:
            response = await http.request(
                request.method,
                f"{self.url}{request.path}",
                params=request.params or None,
                content=request.body,
                headers=request.headers if token is None else _with_token(request.headers, token),
                timeout=httpx2.Timeout(self._timeout, read=self._timeout + request.seconds, pool=None),
            )
        except httpx2.TransportError as error:
            reason = _ERRNO.sub("", str(error)) or type(error).__name__
            failure = Unreachable(f"no response from {self.url}: {reason}. Is the server running?")
            if isinstance(error, _INVALID):
                raise failure from None
            return NoResponse(failure, not isinstance(error, _NOT_SENT))
        return Reply(response.status_code, response.headers, response.content)

    async def _connections(self) -> httpx2.AsyncClient:
        async with self._lock:
            if self._http is None:
                self._http = await run_in_thread(self._make_connections)
            return self._http

    def _make_connections(self) -> httpx2.AsyncClient:
        """Make the connection pool. For https this reads all certificates that the machine trusts."""
        is_plain = self._is_local and self.url.startswith("http:")
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True
        use_proxies = not self._is_local  # a proxy cannot reach a local server
        return httpx2.AsyncClient(verify=verify, trust_env=use_proxies, limits=_LIMITS)


def _with_token(headers: dict[str, str], token: str) -> dict[str, str]:
    return {**headers, "Authorization": f"Bearer {token}"}


class SignIn:
    """Holds the token to send. It gets a new one with ``login`` or from ``source``."""

    def __init__(
        self, send: Send, login: Login | None, source: TokenSource | None, token: str | None
    ) -> None:
        self._send = send
        self._login = login
        self._source = source
        self._token = None if token is None else parse_token(token)
        self.lock = Lock()

    @property
    def is_renewable(self) -> bool:
        """Whether it can get a new token."""
        return self._login is not None or self._source is not None

    async def token(self, refused: str | None = None) -> str | None:
        """The token to send. If the current one is ``refused``, it is renewed first where possible.

        If several requests need a new token at the same time, only one is fetched.
        """
        if not self.is_renewable:
            return None if self._token is None else self._token.value
        async with self.lock:
            if self._token is None or not self._token.is_fresh or self._token.value == refused:
                self._token = await self._fetch()
            return self._token.value

    async def _fetch(self) -> Token:
        if self._source is not None:
            return parse_token(await fetch_token(self._source))
        assert self._login is not None  # noqa: S101 - `is_renewable` says so
        requested_at = monotonic()
        reply = await self._send(token_request(*self._login))
        return token_from(reply.read(TokenResponse), requested_at)
