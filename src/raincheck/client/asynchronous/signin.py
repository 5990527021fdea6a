"""Being signed in: one token for all requests, renewed before it ends and when it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from raincheck.client.answers import Reply
from raincheck.client.asynchronous.seam import Lock, TokenSource, ask
from raincheck.client.requests import Request, signing_in
from raincheck.client.token import Issued, Login, Token, given, token_of
from raincheck.clock import monotonic

Send = Callable[[Request], Awaitable[Reply]]


class SignIn:
    """Knows the token to send, and how to get another: by ``login``, or from ``source``."""

    def __init__(
        self, send: Send, login: Login | None, source: TokenSource | None, token: str | None
    ) -> None:
        self._send = send
        self._login = login
        self._source = source
        self._token = None if token is None else given(token)
        self._lock = Lock()

    @property
    def renewable(self) -> bool:
        """Whether there may be another token than the one that was given."""
        return self._login is not None or self._source is not None

    async def token(self, refused: str | None = None) -> str | None:
        """The token to send; another than the one that was ``refused``, if there can be one.

        However many requests ask at once, one of them gets the new token, for all of them.
        """
        if not self.renewable:
            return None if self._token is None else self._token.value
        async with self._lock:
            if self._token is None or not self._token.fresh or self._token.value == refused:
                self._token = await self._renewed()
            return self._token.value

    async def _renewed(self) -> Token:
        if self._source is not None:
            return given(await ask(self._source))
        assert self._login is not None  # noqa: S101 - or there would be nothing to renew
        asked_at = monotonic()
        reply = await self._send(signing_in(*self._login))
        return token_of(reply.read(Issued), asked_at)
