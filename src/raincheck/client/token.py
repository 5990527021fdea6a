"""Tokens of a client, and how long each is used."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from msgspec import Struct

from raincheck.core.clock import monotonic
from raincheck.core.errors import ConfigError

RENEW_BEFORE = 30.0
"""A token is renewed this many seconds before it expires, or a tenth of its lifetime if that is less."""

_TOKEN = re.compile(r"[!-~]+")


class Login(NamedTuple):
    """A username and a password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


class TokenResponse(Struct, frozen=True):
    """The response of ``POST /v1/token``; ``expires_in`` is in seconds."""

    access_token: str
    expires_in: float | None = None

    def __repr__(self) -> str:
        return f"TokenResponse(expires_in={self.expires_in})"


class Token(NamedTuple):
    """A token, and the time (monotonic) at which it must be renewed."""

    value: str
    renew_at: float = math.inf

    def __repr__(self) -> str:
        return f"Token(renew_at={self.renew_at})"

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used without a renewal."""
        return monotonic() < self.renew_at


def parse_token(value: str) -> Token:
    """A token that the caller supplies. Raises `ConfigError`, which does not show the value."""
    if not _TOKEN.fullmatch(value):
        raise ConfigError("a token has only visible ASCII characters and no spaces")
    return Token(value)


def token_from(response: TokenResponse, requested_at: float) -> Token:
    """The token of a response to a request that was sent at ``requested_at`` (monotonic)."""
    if response.expires_in is None:
        return Token(response.access_token)
    lifetime = max(response.expires_in, 0.0)
    return Token(response.access_token, requested_at + lifetime - min(RENEW_BEFORE, lifetime / 10))
