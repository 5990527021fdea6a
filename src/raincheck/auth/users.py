"""Users: a file of names, hashes of passwords, and what each may do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from raincheck.auth.files import alone, read_private, write_private
from raincheck.auth.scopes import Scope
from raincheck.clock import now, to_datetime
from raincheck.errors import ConfigError, Fault, InvalidInput, NotFound

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")


class User(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user: ``password`` is a hash."""

    name: str
    password: str
    scopes: tuple[Scope, ...]
    created_at: str = ""

    def __repr__(self) -> str:
        return f"User({self.name!r})"

    @property
    def stamp(self) -> str:
        """Changes when the password does, so that tokens of before can be told."""
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
        """The user of this name."""
        return self._users.get(name)


def users_in(content: bytes) -> Users:
    """The users that a file holds. Raises `ConfigError` if it is no file of users."""
    try:
        return Users(msgspec.json.decode(content, type=_File).users)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is no file of users: {error}") from None


def read_users(path: Path) -> Users:
    """The users in a file, none if there is no file. Raises `ConfigError`."""
    return users_in(read_private(path)) if path.exists() else Users()


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless a user can be called so."""
    if not NAME.fullmatch(name):
        raise InvalidInput(Fault("a name has 1 to 100 letters, digits and . _ @ + -, no sign first", "/name"))


def add_user(path: Path, name: str, hashed: str, scopes: Collection[Scope], *, replace: bool = False) -> None:
    """Put a user into the file, which is made if it is not there.

    Raises `InvalidInput`: the name cannot be one, or is taken and ``replace`` is not said.
    """
    check_name(name)
    made = User(
        name=name,
        password=hashed,
        scopes=tuple(sorted(scopes)),
        created_at=to_datetime(now()).isoformat(timespec="seconds"),
    )

    def put(users: dict[str, User]) -> None:
        if name in users and not replace:
            raise InvalidInput(Fault(f"there is a user {name} already: say --replace to change it", "/name"))
        users[name] = made

    _change(path, put)


def remove_user(path: Path, name: str) -> None:
    """Take a user out of the file. Raises `NotFound`."""

    def take(users: dict[str, User]) -> None:
        if users.pop(name, None) is None:
            raise NotFound(f"there is no user {name[:100]!r} in {path}")

    _change(path, take)


def _change(path: Path, change: Callable[[dict[str, User]], None]) -> None:
    with alone(path):
        users = {user.name: user for user in read_users(path)}
        change(users)
        content = msgspec.json.encode(_File([users[name] for name in sorted(users)]))
        write_private(path, msgspec.json.format(content, indent=2) + b"\n")
