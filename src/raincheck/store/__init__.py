"""Stores. Only `make_store` names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from multiprocessing import current_process
from pathlib import Path
from urllib.parse import urlsplit

from raincheck.core import clock
from raincheck.core.clock import new_id
from raincheck.core.errors import StoreUnusable
from raincheck.store.base import Store

__all__ = ["CHILD", "Store", "is_in_memory", "make_store", "needs_a_file"]

IN_MEMORY = "sqlite:///:memory:"

CHILD = "raincheck-child"
"""The name of the child processes of a worker."""


def make_store(url: str, now: Callable[[], float] = clock.now) -> Store:
    """The store of a URL, not yet open. Imports only the driver that it needs.

    ``sqlite:///name.db`` is relative to the current folder, ``sqlite:////var/lib/name.db`` is absolute.
    ``sqlite:///:memory:`` is in memory, new each time; stores of one process share ``sqlite:///:memory:NAME``.
    ``now`` is the clock of a SQLite store; a Valkey server has its own. Raises `StoreUnusable` for any other
    URL, and for a store in memory in a child process of a worker, which cannot reach that of its parent.
    """
    parts = urlsplit(url)
    path_alone = not (parts.netloc or parts.query or parts.fragment)
    if parts.scheme == "sqlite" and path_alone and len(parts.path) > 1:
        from raincheck.store.sqlite import SQLiteStore

        if is_in_memory(url) and current_process().name == CHILD:
            raise StoreUnusable(needs_a_file(url, "a process=True function cannot use it"))
        name = new_id() if url == IN_MEMORY else ""
        return SQLiteStore(Path(parts.path[1:] + name), now)
    if parts.scheme.split("+")[0] in ("redis", "rediss", "valkey", "valkeys", "unix"):
        try:
            from raincheck.store.valkey import ValkeyStore
        except ModuleNotFoundError as error:
            raise StoreUnusable(f"{mask(url)} needs the extra: pip install 'raincheck[valkey]'") from error
        return ValkeyStore(url)
    raise StoreUnusable(f"no store has the URL {mask(url)!r}; one that works: sqlite:///raincheck.db")


def is_in_memory(url: str) -> bool:
    """Whether this is the URL of a store in memory: only the process that opens it can use it."""
    return url.startswith(IN_MEMORY)


def needs_a_file(url: str, why: str) -> str:
    """The message for a use of a store in memory that needs several processes."""
    return f"{url} is in the memory of one process: {why}. Use a file, such as sqlite:///raincheck.db"


def mask(url: str) -> str:
    """A URL with its passwords masked, for messages."""
    parts = urlsplit(url)
    query = re.sub(r"(?<=password=)[^&]*", "***", parts.query)
    netloc = parts.netloc if parts.password is None else parts.netloc.replace(f":{parts.password}@", ":***@")
    if (netloc, query) == (parts.netloc, parts.query):
        return url
    return parts._replace(netloc=netloc, query=query).geturl()
