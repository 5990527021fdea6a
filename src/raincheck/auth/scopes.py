"""What a caller may do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from raincheck.errors import Fault, InvalidInput


class Scope(StrEnum):
    """One thing that a token can allow."""

    READ = "job:read"
    """See jobs, functions and workers."""
    WRITE = "job:write"
    """Submit, call, cancel, retry and forget."""
    WORKER = "worker"
    """Be a worker, by HTTP."""
    ADMIN = "admin"
    """Everything."""


USUAL = (Scope.READ, Scope.WRITE)
"""What a user may do unless it is said."""


def allows(granted: Collection[str], needed: Scope) -> bool:
    """Whether these scopes are enough: they hold the very one, or ``admin``."""
    return needed in granted or Scope.ADMIN in granted


def scopes_of(names: Iterable[str], pointer: str = "/scope") -> frozenset[Scope]:
    """Scopes by their names. Raises `InvalidInput` for a name that is none."""
    found = set()
    for name in names:
        if name not in list(Scope):
            raise InvalidInput(
                Fault(f"there is no scope {name[:50]!r}; scopes are {', '.join(Scope)}", pointer)
            )
        found.add(Scope(name))
    return frozenset(found)
