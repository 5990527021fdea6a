"""The file of signing keys that ``raincheck key`` manages: a JWK set, newest key first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from raincheck.auth.files import locked, read_private, write_private
from raincheck.auth.keys import JWK, keys_from_file, new_jwk, parse_jwks
from raincheck.core.errors import ConfigError, NotFound


def read_keys(path: Path) -> list[JWK]:
    """The keys in a file; empty if the file does not exist. Raises `ConfigError`."""
    if not path.exists():
        return []
    content = read_private(path)
    if content.lstrip()[:1] != b"{":
        raise ConfigError(
            f"{path} has secrets, one per line, not keys. Add a new secret as its first line by hand."
        )
    try:
        keys_from_file(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return parse_jwks(content)


def add_key(path: Path, algorithm: str) -> str:
    """Add a key that signs all new tokens; returns its id."""
    jwk = new_jwk(algorithm)
    _change(path, lambda keys: keys.insert(0, jwk))
    return str(jwk["kid"])


def remove_key(path: Path, kid: str) -> None:
    """Remove a key and invalidate the tokens signed with it.

    Raises `NotFound`, or `ConfigError` if it is the only key.
    """

    def remove(keys: list[JWK]) -> None:
        remaining = [key for key in keys if key.get("kid") != kid]
        if len(remaining) == len(keys):
            raise NotFound(f"the key {kid[:100]!r} does not exist in {path}")
        if not remaining:
            raise ConfigError(f"{kid} is the only key in {path}. Add another key first.")
        keys[:] = remaining

    _change(path, remove)


def _change(path: Path, change: Callable[[list[JWK]], None]) -> None:
    with locked(path):
        keys = read_keys(path)
        change(keys)
        write_private(path, msgspec.json.format(msgspec.json.encode({"keys": keys}), indent=2) + b"\n")
