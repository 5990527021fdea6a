"""Signs the client in: one token for all requests, renewed before it expires or when it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from raincheck.client.asynchronous.compat import Lock, TokenSource, fetch_token
from raincheck.client.requests import Request, token_request
from raincheck.client.responses import Reply
from raincheck.client.token import Login, Token, TokenResponse, parse_token, token_from
from raincheck.core.clock import monotonic

Send = Callable[[Request], Awaitable[Reply]]


class SignIn:
    """Holds the token to send. It gets a new one with ``login`` or from ``source``."""

    def __init__(
        self, send: Send, login: Login | None, source: TokenSource | None, token: str | None
    ) -> None:
        self._send = send
        self._login = login
        self._source = source
        self._token = None if token is None else parse_token(token)
        self._lock = Lock()

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
        async with self._lock:
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
