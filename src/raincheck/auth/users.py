"""Users: a file with the name, password hash and scopes of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from raincheck.auth.files import locked, read_private, write_private
from raincheck.auth.identity import parse_scopes
from raincheck.core.clock import now, to_datetime
from raincheck.core.errors import ConfigError, Fault, InvalidInput, NotFound

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")


class User(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user. ``password`` is an argon2 hash; ``created_at`` is an ISO date."""

    name: str
    password: str
    scopes: tuple[str, ...]
    created_at: str = ""

    def __repr__(self) -> str:
        return f"User({self.name!r})"

    @property
    def stamp(self) -> str:
        """A value that changes with the password. Tokens contain it, so a new password invalidates them."""
        return hashlib.blake2b(self.password.encode(), digest_size=6, person=b"raincheck user").hexdigest()


class _File(Struct, forbid_unknown_fields=True):
    users: list[User]


class Users:
    """Users by name."""

    def __init__(self, users: Collection[User] = ()) -> None:
        self._users = {user.name: user for user in users}

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[User]:
        return iter(sorted(self._users.values(), key=lambda user: user.name))

    def find(self, name: str) -> User | None:
        """The user with this name."""
        return self._users.get(name)


def parse_users(content: bytes) -> Users:
    """Parse the content of a file of users. Raises `ConfigError`."""
    try:
        users = msgspec.json.decode(content, type=_File).users
        for user in users:
            parse_scopes(user.scopes, "/scopes")
        return Users(users)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, InvalidInput) as error:
        raise ConfigError(
            f"this is not a file of users: {error}. Make one with raincheck user add."
        ) from None


def read_users(path: Path) -> Users:
    """The users in a file; empty if the file does not exist. Raises `ConfigError`."""
    return parse_users(read_private(path)) if path.exists() else Users()


def check_name(name: str) -> None:
    """Raise `InvalidInput` if this is not a valid name for a user."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            Fault(
                "use 1 to 100 letters, digits and . _ @ + -, beginning with a letter or a digit",
                "/name",
            )
        )


def add_user(path: Path, name: str, hashed: str, scopes: Collection[str], *, replace: bool = False) -> None:
    """Add a user to the file, which is created if it does not exist.

    Raises `InvalidInput` if the name is not valid, or exists and ``replace`` is false.
    """
    check_name(name)
    user = User(
        name=name,
        password=hashed,
        scopes=tuple(sorted(scopes)),
        created_at=to_datetime(now()).isoformat(timespec="seconds"),
    )

    def add(users: dict[str, User]) -> None:
        if name in users and not replace:
            raise InvalidInput(Fault(f"the user {name} exists already. Use --replace to change it.", "/name"))
        users[name] = user

    _change(path, add)


def remove_user(path: Path, name: str) -> None:
    """Remove a user from the file. Raises `NotFound`."""

    def remove(users: dict[str, User]) -> None:
        if users.pop(name, None) is None:
            raise NotFound(f"the user {name[:100]!r} does not exist in {path}")

    _change(path, remove)


def _change(path: Path, change: Callable[[dict[str, User]], None]) -> None:
    with locked(path):
        users = {user.name: user for user in read_users(path)}
        change(users)
        content = msgspec.json.encode(_File([users[name] for name in sorted(users)]))
        write_private(path, msgspec.json.format(content, indent=2) + b"\n")
