"""Pages of jobs: written once, above `Store.page`, which gives candidates.

A cursor names the kind of store and the filter that it was made for. One of another store or listing would
lead to a wrong page, so it is refused.
"""

from __future__ import annotations

import base64
import hashlib

import msgspec
from msgspec import Struct

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import Stored
from raincheck.store.base import Filter, Store

EXAMINE = 1000
"""How many candidates one page looks at."""

READ = 100
"""How many of them are read together, at least, once the first ones have not filled the page."""

_SEAL = 6
"""Bytes of a cursor that stand for the store, the listing and the position."""

_encode = msgspec.msgpack.Encoder().encode


class Page(Struct, frozen=True):
    """Some jobs, newest first. ``cursor`` leads to the next page; None: there is none.

    A page may hold fewer jobs than asked for, even none, and still have a cursor.
    """

    jobs: tuple[Stored, ...]
    cursor: str | None = None


async def page(store: Store, which: Filter, limit: int, cursor: str | None = None) -> Page:
    """Up to ``limit`` jobs that match, newest first. Raises `InvalidInput` for a cursor of another one."""
    after = None if cursor is None else _position(store, which, cursor)
    found: list[Stored] = []
    size, looked = limit, 0
    while True:
        try:
            candidates = await store.page(which, size, after)
        except ValueError:
            raise _wrong() from None
        matching = [i for i, each in enumerate(candidates.jobs) if matches(each, which)]
        room = limit - len(found)
        found += [candidates.jobs[i] for i in matching[:room]]
        after, looked = candidates.end, looked + len(candidates.jobs)
        if len(matching) > room:
            after = candidates.positions[matching[room - 1]]
        if after is None or len(found) == limit or len(candidates.jobs) < size or looked >= EXAMINE:
            return Page(tuple(found), None if after is None else _cursor(store, which, after))
        size = max(READ, limit - len(found))


def matches(stored: Stored, which: Filter) -> bool:
    """Whether a job belongs in a listing."""
    job = stored.job
    return (
        which.state in (None, stored.state)
        and which.name in (None, job.name)
        and which.group in (None, job.group)
        and (which.function is None or any(step.function == which.function for step in job.steps))
    )


def _cursor(store: Store, which: Filter, position: str) -> str:
    sealed = _seal(store, which, position.encode()) + position.encode()
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _position(store: Store, which: Filter, cursor: str) -> str:
    try:
        sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = sealed[_SEAL:].decode()
    except ValueError:
        raise _wrong() from None
    if sealed[:_SEAL] != _seal(store, which, position.encode()) or _cursor(store, which, position) != cursor:
        raise _wrong()
    return position


def _seal(store: Store, which: Filter, position: bytes) -> bytes:
    return hashlib.blake2b(_encode((store.kind, which, position)), digest_size=_SEAL).digest()


def _wrong() -> InvalidInput:
    return InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor"))
