"""The options of commands that call a server, and the tokens that ``raincheck login`` stores.

The tokens are in a file that only its owner can read, by server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from msgspec import Struct

from raincheck.auth.files import locked, read_private, write_private
from raincheck.client import Client
from raincheck.core.errors import ConfigError, NotSignedIn

DEFAULT_URL = "http://127.0.0.1:8000"
VARIABLE = "RAINCHECK_TOKEN"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@Parameter(name="*")
@dataclass(frozen=True)
class Connection:
    """The server to call, and the output format."""

    url: Annotated[str, Parameter(env_var="RAINCHECK_URL", metavar="URL")] = DEFAULT_URL
    """URL of the server."""
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """File with the token to send (default: RAINCHECK_TOKEN, else the token of raincheck login)."""
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print the response as JSON."""

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the server that sends the stored token. It sends no request twice."""
        with Client(self.url, token=token_for(self.url, self.token_file), patience=0.0) as client:
            try:
                yield client
            except NotSignedIn as error:
                error.add_note(f"Sign in with: raincheck login --url {client.url}")
                raise


DEFAULT_CONNECTION = Connection()


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
    stored = _read_tokens().get(_without_slash(url))
    return None if stored is None else stored.token


def _check_token(token: str, origin: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{origin} does not contain a token. raincheck token prints one.")
    return token


def store_token(url: str, credential: Credential) -> Path:
    """Store the token of a server; returns the path of the file."""
    path = _tokens_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the directory {path.parent}: {error.strerror}") from None
    with locked(path):
        _write_tokens(_read_tokens() | {_without_slash(url): credential})
    return path


def delete_token(url: str) -> bool:
    """Delete the token of a server; returns whether there was one."""
    path = _tokens_path()
    if not path.exists():
        return False
    with locked(path):
        credentials = _read_tokens()
        removed = credentials.pop(_without_slash(url), None)
        _write_tokens(credentials)
    return removed is not None


def _tokens_path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "raincheck" / "tokens.json"


def _read_tokens() -> dict[str, Credential]:
    path = _tokens_path()
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(read_private(path), type=dict[str, Credential])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise ConfigError(f"{path} is not valid. Delete it and sign in again: raincheck login") from None


def _write_tokens(credentials: dict[str, Credential]) -> None:
    write_private(_tokens_path(), msgspec.json.encode(credentials))


def _without_slash(url: str) -> str:
    return url.rstrip("/")
