"""Identities: the caller that a token names, and the scopes that say what the caller may do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import StrEnum

from msgspec import Struct

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.text import matches


class Scope(StrEnum):
    """A permission of a token."""

    READ = "job:read"
    """Read jobs, functions and workers."""
    WRITE = "job:write"
    """Submit, call, cancel, retry and forget jobs."""
    DEBUG = "job:debug"
    """Read the tracebacks of failed attempts: they show code, and values in messages."""
    WORKER = "worker"
    """Connect as a worker over HTTP. ``worker:PATTERN``: only for functions whose names match the pattern."""
    ADMIN = "admin"
    """Everything."""


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""The scopes of a user who is added without a scope."""


class Identity(Struct, frozen=True, kw_only=True):
    """A verified caller. ``subject`` is the username; ``expires_at`` is in seconds since 1970.

    ``stamp`` is `User.stamp` at the time of the sign-in; it is empty for other tokens.
    """

    subject: str
    scopes: frozenset[str]
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


_LIMITED = f"{Scope.WORKER}:"
_PATTERN = re.compile(r"[A-Za-z0-9_.:@/*-]{1,200}")
"""What the pattern of a scope may contain: what names of functions contain, and ``*``."""


def is_scope(name: str) -> bool:
    """Whether this is a scope: one of `Scope`, or ``worker:PATTERN``."""
    return name in list(Scope) or (
        name.startswith(_LIMITED) and bool(_PATTERN.fullmatch(name[len(_LIMITED) :]))
    )


def allows(granted: Collection[str], needed: str) -> bool:
    """Whether the granted scopes include the needed one: they have it, or ``admin``.

    ``worker`` includes ``worker:PATTERN``, and a pattern includes all that match it: ``worker:a*`` includes
    ``worker:ab*`` and ``worker:abc``.
    """
    if needed in granted or Scope.ADMIN in granted:
        return True
    if not needed.startswith(_LIMITED):
        return False
    wanted = needed[len(_LIMITED) :]
    return Scope.WORKER in granted or any(
        matches(each[len(_LIMITED) :], wanted) for each in granted if each.startswith(_LIMITED)
    )


def admits(granted: Collection[str], needed: Scope) -> bool:
    """Whether a caller may use a route. A worker with any pattern may use those of workers."""
    is_limited = needed is Scope.WORKER and any(each.startswith(_LIMITED) for each in granted)
    return is_limited or allows(granted, needed)


def worker_scope(function: str) -> str:
    """The scope that a worker needs for a function."""
    return _LIMITED + function


def parse_scopes(names: Iterable[str], pointer: str = "/scope") -> frozenset[str]:
    """Parse the names of scopes. Raises `InvalidInput` for an unknown one."""
    scopes = frozenset(names)
    for name in sorted(scopes):
        if not is_scope(name):
            known = ", ".join([*Scope, f"{_LIMITED}PATTERN"])
            raise InvalidInput(Fault(f"unknown scope {name[:50]!r}. Use one of {known}", pointer))
    return scopes
