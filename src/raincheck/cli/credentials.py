"""Tokens of who signed in, by the server they are for: in a file for its owner alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from raincheck.auth.files import alone, read_private, write_private
from raincheck.errors import ConfigError

VARIABLE = "RAINCHECK_TOKEN"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class Credential(Struct, frozen=True):
    """A token, and whose it is."""

    username: str
    token: str
    expires_at: float

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"


def token_for(url: str, token_file: Path | None = None) -> str | None:
    """The token to send to a server: from this file, else RAINCHECK_TOKEN, else of who signed in there.

    Raises `ConfigError` if a file cannot be read, or holds no token.
    """
    if token_file is not None:
        return _checked(read_private(token_file).decode("ascii", "replace").strip(), str(token_file))
    if given := os.environ.get(VARIABLE, "").strip():
        return _checked(given, VARIABLE)
    stored = _read().get(_server(url))
    return None if stored is None else stored.token


def _checked(token: str, origin: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{origin} holds no token: one is printed by raincheck token")
    return token


def store(url: str, credential: Credential) -> Path:
    """Keep a token for a server; the file it is in."""
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be made: {error.strerror}") from None
    with alone(path):
        _write(_read() | {_server(url): credential})
    return path


def forget(url: str) -> bool:
    """Keep no token for a server any more; whether there was one."""
    path = _path()
    if not path.exists():
        return False
    with alone(path):
        kept = _read()
        found = kept.pop(_server(url), None)
        _write(kept)
    return found is not None


def _path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "raincheck" / "tokens.json"


def _read() -> dict[str, Credential]:
    path = _path()
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(read_private(path), type=dict[str, Credential])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise ConfigError(f"{path} is broken: remove it, and sign in again") from None


def _write(kept: dict[str, Credential]) -> None:
    write_private(_path(), msgspec.json.encode(kept))


def _server(url: str) -> str:
    return url.rstrip("/")
