"""Stores. Only `make_store` names them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from raincheck.core.errors import StoreUnusable
from raincheck.store.base import Store

__all__ = ["Store", "make_store"]


def make_store(url: str) -> Store:
    """The store of a URL, not yet open. Imports only the driver that it needs.

    ``sqlite:///name.db`` is relative to the current folder, ``sqlite:////var/lib/name.db`` is absolute.
    Raises `StoreUnusable` for any other URL.
    """
    parts = urlsplit(url)
    path_alone = not (parts.netloc or parts.query or parts.fragment)
    if parts.scheme == "sqlite" and path_alone and len(parts.path) > 1:
        from raincheck.store.sqlite import SQLiteStore

        return SQLiteStore(Path(parts.path[1:]))
    if parts.scheme.split("+")[0] in ("redis", "rediss", "valkey", "valkeys", "unix"):
        try:
            from raincheck.store.valkey import ValkeyStore
        except ModuleNotFoundError as error:
            raise StoreUnusable(f"{mask(url)} needs the extra: pip install 'raincheck[valkey]'") from error
        return ValkeyStore(url)
    raise StoreUnusable(f"no store has the URL {mask(url)!r}; one that works: sqlite:///raincheck.db")


def mask(url: str) -> str:
    """A URL with its passwords masked, for messages."""
    parts = urlsplit(url)
    query = re.sub(r"(?<=password=)[^&]*", "***", parts.query)
    netloc = parts.netloc if parts.password is None else parts.netloc.replace(f":{parts.password}@", ":***@")
    if (netloc, query) == (parts.netloc, parts.query):
        return url
    return parts._replace(netloc=netloc, query=query).geturl()
