"""The tokens that ``raincheck login`` stores, by server, in a file that only its owner can read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from raincheck.auth.files import locked, read_private, write_private
from raincheck.core.errors import ConfigError

VARIABLE = "RAINCHECK_TOKEN"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class Credential(Struct, frozen=True):
    """A token and its user; ``expires_at`` is in seconds since 1970."""

    username: str
    token: str
    expires_at: float

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"


def token_for(url: str, token_file: Path | None = None) -> str | None:
    """The token for a server: from ``token_file``, else RAINCHECK_TOKEN, else from ``raincheck login``.

    Raises `ConfigError` if a file cannot be read or has no token.
    """
    if token_file is not None:
        return _check_token(read_private(token_file).decode("ascii", "replace").strip(), str(token_file))
    if token := os.environ.get(VARIABLE, "").strip():
        return _check_token(token, VARIABLE)
    stored = _read().get(_server(url))
    return None if stored is None else stored.token


def _check_token(token: str, origin: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{origin} does not contain a token. raincheck token prints one.")
    return token


def store(url: str, credential: Credential) -> Path:
    """Store the token of a server; returns the path of the file."""
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the directory {path.parent}: {error.strerror}") from None
    with locked(path):
        _write(_read() | {_server(url): credential})
    return path


def delete(url: str) -> bool:
    """Delete the token of a server; returns whether there was one."""
    path = _path()
    if not path.exists():
        return False
    with locked(path):
        credentials = _read()
        removed = credentials.pop(_server(url), None)
        _write(credentials)
    return removed is not None


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
        raise ConfigError(f"{path} is not valid. Delete it and sign in again: raincheck login") from None


def _write(credentials: dict[str, Credential]) -> None:
    write_private(_path(), msgspec.json.encode(credentials))


def _server(url: str) -> str:
    return url.rstrip("/")
