"""Tokens: what a client signs in with, and how long what it got may be used."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from msgspec import Struct

from raincheck.clock import monotonic
from raincheck.errors import ConfigError

MARGIN = 30.0
"""Seconds before its end at which a token is renewed; a tenth of its life, if that is less."""


_TOKEN = re.compile(r"[!-~]+")


class Login(NamedTuple):
    """A name and a password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


class Issued(Struct, frozen=True):
    """The answer of ``POST /v1/token``."""

    access_token: str
    expires_in: float | None = None

    def __repr__(self) -> str:
        return f"Issued(expires_in={self.expires_in})"


class Token(NamedTuple):
    """A token, and until when it is used."""

    value: str
    until: float = math.inf

    def __repr__(self) -> str:
        return f"Token(until={self.until})"

    @property
    def fresh(self) -> bool:
        """Whether it is still used."""
        return monotonic() < self.until


def given(value: str) -> Token:
    """A token that somebody gave. Raises `ConfigError` for what can be none, and does not show it."""
    if not _TOKEN.fullmatch(value):
        raise ConfigError("a token is made of visible ASCII characters, without blanks")
    return Token(value)


def token_of(issued: Issued, asked_at: float) -> Token:
    """A token that was asked for at a moment (monotonic)."""
    if issued.expires_in is None:
        return Token(issued.access_token)
    life = max(issued.expires_in, 0.0)
    return Token(issued.access_token, asked_at + life - min(MARGIN, life / 10))
