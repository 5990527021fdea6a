"""Pages of jobs: written once for all stores, above `Store.page`, which returns candidates.

A cursor contains the position, the time that durations are counted from, and a hash of both, the filter and
the kind of store. A cursor of another store or filter would select a wrong page, so it is refused.
"""

from __future__ import annotations

import base64
import hashlib
import struct

import msgspec
from msgspec import Struct

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import Problem, Stored
from raincheck.store.base import Filter, Store

MAX_CANDIDATES = 1000
"""Candidates that one page reads at most."""

MIN_READ = 100
"""Candidates per read, at least, after the first read."""

_HASH_BYTES = 6
"""Bytes of a cursor that are the hash."""

_TIME = struct.Struct(">d")

_encode = msgspec.msgpack.Encoder().encode


class Page(Struct, frozen=True):
    """Jobs in the order of a filter, and the cursor of the next page; None: this is the last page.

    A page can have fewer jobs than the limit, even none, and still have a cursor. ``positions`` are those of
    the jobs, for `cursor_after`.
    """

    jobs: tuple[Stored, ...]
    cursor: str | None = None
    positions: tuple[str, ...] = ()


async def page(store: Store, which: Filter, limit: int, cursor: str | None = None) -> Page:
    """Up to ``limit`` jobs that match. Raises `InvalidInput` for an invalid cursor."""
    after = None if cursor is None else _position(store, which, cursor)
    found: list[Stored] = []
    positions: list[str] = []
    size, reads = limit, 0
    while True:
        try:
            candidates = await store.page(which, size, after)
        except ValueError:
            raise _invalid_cursor() from None
        matching = [i for i, each in enumerate(candidates.jobs) if matches(each, which)]
        room = limit - len(found)
        found += [candidates.jobs[i] for i in matching[:room]]
        positions += [candidates.positions[i] for i in matching[:room]]
        after, reads = candidates.end, reads + len(candidates.jobs)
        if len(matching) > room:
            after = candidates.positions[matching[room - 1]]
        if after is None or len(found) == limit or len(candidates.jobs) < size or reads >= MAX_CANDIDATES:
            cursor = None if after is None else cursor_after(store, which, after)
            return Page(tuple(found), cursor, tuple(positions))
        size = max(MIN_READ, limit - len(found))


def matches(stored: Stored, which: Filter) -> bool:
    """Whether a job matches the filter of a listing."""
    job = stored.job
    return (
        (not which.states or stored.state in which.states)
        and which.name in (None, job.name)
        and which.group in (None, job.group)
        and which.schedule in (None, job.schedule)
        and (which.since is None or job.created_at >= which.since)
        and (which.until is None or job.created_at < which.until)
        and (which.function is None or any(step.function == which.function for step in job.steps))
        and (which.error is None or (job.error is not None and which.error in _names_of(job.error)))
    )


def _names_of(error: Problem) -> tuple[str | None, ...]:
    """The names that a filter can give for an error."""
    return error.name, error.type, error.exception, (error.exception or "").rpartition(".")[2]


def cursor_after(store: Store, which: Filter, position: str) -> str:
    """The cursor of the page that begins after a position of a listing."""
    content = _hash(store, which, position.encode()) + _TIME.pack(which.counted_from) + position.encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def counted_from(cursor: str) -> float:
    """The time that the durations of a listing's filter were counted from. Raises `InvalidInput`.

    `page` then checks the whole cursor.
    """
    content = _content(cursor)
    if len(content) < _HASH_BYTES + _TIME.size:
        raise _invalid_cursor()
    moment: float
    (moment,) = _TIME.unpack_from(content, _HASH_BYTES)
    return moment


def _content(cursor: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise _invalid_cursor() from None


def _position(store: Store, which: Filter, cursor: str) -> str:
    content = _content(cursor)
    try:
        position = content[_HASH_BYTES + _TIME.size :].decode()
    except ValueError:
        raise _invalid_cursor() from None
    if (
        content[:_HASH_BYTES] != _hash(store, which, position.encode())
        or cursor_after(store, which, position) != cursor
    ):
        raise _invalid_cursor()
    return position


def _hash(store: Store, which: Filter, position: bytes) -> bytes:
    return hashlib.blake2b(_encode((store.kind, which, position)), digest_size=_HASH_BYTES).digest()


def _invalid_cursor() -> InvalidInput:
    return InvalidInput(Fault("not a cursor that a page of this listing gave", "/cursor"))
