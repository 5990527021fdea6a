"""Identities: the caller that a token names, and the scopes that say what the caller may do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from msgspec import Struct

from raincheck.core.errors import Fault, InvalidInput


class Scope(StrEnum):
    """A permission of a token."""

    READ = "job:read"
    """Read jobs, functions and workers."""
    WRITE = "job:write"
    """Submit, call, cancel, retry and forget jobs."""
    DEBUG = "job:debug"
    """Read the tracebacks of failed attempts: they show code, and values in messages."""
    WORKER = "worker"
    """Reserved for workers that connect over HTTP."""
    ADMIN = "admin"
    """Everything."""


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""The scopes of a user who is added without a scope."""


class Identity(Struct, frozen=True, kw_only=True):
    """A verified caller. ``subject`` is the username; ``expires_at`` is in seconds since 1970.

    ``stamp`` is `User.stamp` at the time of the sign-in; it is empty for other tokens.
    """

    subject: str
    scopes: frozenset[Scope]
    expires_at: float
    stamp: str = ""


class Token(Struct, frozen=True, kw_only=True):
    """The token of a caller. ``expires_in`` is in seconds; ``scope`` is a list separated by spaces."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    scope: str

    def __repr__(self) -> str:
        return f"Token(expires_in={self.expires_in}, scope={self.scope!r})"


def allows(granted: Collection[str], needed: Scope) -> bool:
    """Whether the granted scopes include the needed one or ``admin``."""
    return needed in granted or Scope.ADMIN in granted


def parse_scopes(names: Iterable[str], pointer: str = "/scope") -> frozenset[Scope]:
    """Parse the names of scopes. Raises `InvalidInput` for an unknown one."""
    scopes = set()
    for name in names:
        if name not in list(Scope):
            raise InvalidInput(Fault(f"unknown scope {name[:50]!r}. Use one of {', '.join(Scope)}", pointer))
        scopes.add(Scope(name))
    return frozenset(scopes)
