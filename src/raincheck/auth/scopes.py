"""Scopes: what a token allows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from raincheck.core.errors import Fault, InvalidInput


class Scope(StrEnum):
    """A permission of a token."""

    READ = "job:read"
    """Read jobs, functions and workers."""
    WRITE = "job:write"
    """Submit, call, cancel, retry and forget jobs."""
    WORKER = "worker"
    """Reserved for workers that connect over HTTP."""
    ADMIN = "admin"
    """Everything."""


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)
"""The scopes of a user who is added without a scope."""


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
