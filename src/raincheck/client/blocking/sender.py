# Generated from src/raincheck/client/asynchronous/sender.py by tools/twin.py: do not edit.
"""Sending a request until it is answered: signed in, and again where that may help."""

from __future__ import annotations

import re
import ssl
from math import inf

import httpx2

from raincheck.client.answers import Reply, error_of
from raincheck.client.blocking.seam import Lock, TokenSource, apart, sleep
from raincheck.client.blocking.signin import SignIn
from raincheck.client.patience import Lost, Patience
from raincheck.client.requests import Request, is_local
from raincheck.client.token import Login
from raincheck.clock import monotonic
from raincheck.errors import Unreachable

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)
_HOPELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
_UNAUTHORIZED = 401

_LIMITS = httpx2.Limits(max_connections=500, max_keepalive_connections=100)
"""Each request that waits has a connection of its own; those over the limit wait for one."""


class Sender:
    """Sends requests to one server."""

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenSource | None,
        login: Login | None,
        patience: float,
        timeout: float,
        http: httpx2.Client | None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._timeout = timeout
        self._ours = http is None
        self._local = is_local(url)
        self._http = http
        self._lock = Lock()
        given, source = (token, None) if token is None or isinstance(token, str) else (None, token)
        self._sign_in = SignIn(self._send_unsigned, login, source, given)

    def close(self) -> None:
        """Close the connections, unless whoever made them looks after them."""
        if self._ours and self._http is not None:
            self._http.close()
            self._http = None

    def send(self, request: Request, patience: float | None = None) -> Reply:
        """The answer to a request. Raises the error that it is, or `Unreachable` if there is none.

        It is sent again where that is safe and may help, until the client's patience is at its end, or
        that of so many seconds.
        """
        return self._send(request, True, inf if patience is None else patience)

    def _send_unsigned(self, request: Request) -> Reply:
        return self._send(request, False, inf)

    def _send(self, request: Request, signed: bool, seconds: float) -> Reply:
        patience = Patience(min(self._patience, seconds))
        while True:
            begun = monotonic()
            outcome = self._signed(request) if signed else self._once(request, None)
            if isinstance(outcome, Reply) and outcome.ok:
                return outcome
            took = monotonic() - begun
            pause = patience.pause(request, outcome, took)
            if pause is None:
                raise outcome.error if isinstance(outcome, Lost) else error_of(outcome, self.url)
            sleep(pause)
            request = request.after(took + pause)

    def _signed(self, request: Request) -> Reply | Lost:
        token = self._sign_in.token()
        outcome = self._once(request, token)
        if isinstance(outcome, Lost) or outcome.status != _UNAUTHORIZED or not self._sign_in.renewable:
            return outcome
        return self._once(request, self._sign_in.token(refused=token))

    def _once(self, request: Request, token: str | None) -> Reply | Lost:
        http = self._connected()
        try:
            answer = http.request(
                request.method,
                f"{self.url}{request.path}",
                params=request.params or None,
                content=request.body,
                headers=request.headers if token is None else _signed_headers(request, token),
                timeout=httpx2.Timeout(self._timeout, read=self._timeout + request.seconds, pool=None),
            )
        except httpx2.TransportError as error:
            reason = _ERRNO.sub("", str(error)) or type(error).__name__
            failure = Unreachable(f"no server answers at {self.url}: {reason}")
            if isinstance(error, _HOPELESS):
                raise failure from None
            return Lost(failure, not isinstance(error, _NOT_SENT))
        return Reply(answer.status_code, answer.headers, answer.content)

    def _connected(self) -> httpx2.Client:
        with self._lock:
            if self._http is None:
                self._http = apart(self._connect)
            return self._http

    def _connect(self) -> httpx2.Client:
        """Connections to be; for https it reads all the certificates that the machine trusts."""
        plain = self._local and self.url.startswith("http:")
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True
        proxies = not self._local  # a proxy cannot know what is local here
        return httpx2.Client(verify=trust, trust_env=proxies, limits=_LIMITS)


def _signed_headers(request: Request, token: str) -> dict[str, str]:
    return {**request.headers, "Authorization": f"Bearer {token}"}
