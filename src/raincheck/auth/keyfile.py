"""A file of keys, as ``raincheck key`` looks after it: a JWK set, the newest key first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from raincheck.auth.files import alone, read_private, write_private
from raincheck.auth.keys import JWK, from_file, jwks_of, new_jwk
from raincheck.errors import ConfigError, NotFound


def read_keys(path: Path) -> list[JWK]:
    """The keys in a file, none if there is no file. Raises `ConfigError`."""
    if not path.exists():
        return []
    content = read_private(path)
    if content.lstrip()[:1] != b"{":
        raise ConfigError(f"{path} holds secrets, one a line, and no keys: put a new one above them by hand")
    try:
        from_file(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return jwks_of(content)


def add_key(path: Path, algorithm: str) -> str:
    """Put a new key before the others, so that it signs from now on; its id."""
    made = new_jwk(algorithm)
    _change(path, lambda keys: keys.insert(0, made))
    return str(made["kid"])


def remove_key(path: Path, kid: str) -> None:
    """Take a key out: what it signed no longer holds. Raises `NotFound`."""

    def take(keys: list[JWK]) -> None:
        kept = [key for key in keys if key.get("kid") != kid]
        if len(kept) == len(keys):
            raise NotFound(f"there is no key {kid[:100]!r} in {path}")
        if not kept:
            raise ConfigError(f"{kid} is the only key in {path}: add another first")
        keys[:] = kept

    _change(path, take)


def _change(path: Path, change: Callable[[list[JWK]], None]) -> None:
    with alone(path):
        keys = read_keys(path)
        change(keys)
        write_private(path, msgspec.json.format(msgspec.json.encode({"keys": keys}), indent=2) + b"\n")
