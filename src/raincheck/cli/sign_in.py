"""Commands about sign-in: login, logout, token, and those for users and signing keys."""

from __future__ import annotations

import secrets
import sys
from getpass import getpass, getuser
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from raincheck.auth import DEFAULT_SCOPES, DEFAULT_USERS, Token, parse_scopes, require_auth_extra
from raincheck.auth import users as users_file
from raincheck.cli.connection import (
    DEFAULT_CONNECTION,
    Connection,
    Credential,
    delete_token,
    store_token,
    token_for,
)
from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.terminal import new_table, note, out, plain, print_json, show, warn
from raincheck.client import Client
from raincheck.client.requests import is_local
from raincheck.core.clock import now

Flag = Annotated[bool, Parameter(show_default=False)]
Users = Annotated[Path, Parameter(env_var="RAINCHECK_USERS", metavar="FILE")]
File = Annotated[Path, Parameter(env_var="RAINCHECK_SECRET_FILE", metavar="FILE")]


def login(
    *, username: str | None = None, scope: str | None = None, connection: Connection = DEFAULT_CONNECTION
) -> int:
    """Sign in to a server.

    Parameters
    ----------
    username
        Name of the user (default: your login name on this machine); a prompt or stdin supplies the password.
    scope
        Scopes of the token, separated by spaces (default: all scopes of the user).
    """
    name = username or _login_name()
    if urlsplit(connection.url).scheme == "http" and not is_local(connection.url):
        warn("the connection is not encrypted: others can read the password. Use an https URL.")
    body = {"username": name, "password": read_password(f"Password of {name}: ")}
    request = msgspec.json.encode(body | ({"scope": scope} if scope else {}))
    with Client(connection.url, patience=0.0) as client:
        reply = client.request("POST", "/v1/token", request)
    token = reply.read(Token)
    path = store_token(connection.url, Credential(name, token.access_token, now() + token.expires_in))
    if connection.json:
        print_json(
            msgspec.json.encode({"username": name, "expires_in": token.expires_in, "scope": token.scope})
        )
    else:
        duration = _format_duration(token.expires_in)
        note(f"Signed in to {connection.url} as {name} for {duration}.")
        note(f"Scopes: {token.scope}. Token file: {path}")
    return Exit.OK


def logout(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """Delete the stored token of a server.

    Copies of the token stay valid until it expires.
    """
    deleted = delete_token(connection.url)
    note(f"Signed out of {connection.url}" if deleted else f"You are not signed in to {connection.url}")
    return Exit.OK


def token(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """Print the token that commands send to a server.

    For example: curl -H "Authorization: Bearer $(raincheck token)".
    """
    value = token_for(connection.url, connection.token_file)
    if value is None:
        raise UsageError(f"you are not signed in to {connection.url}. Run: raincheck login")
    if connection.json:
        print_json(msgspec.json.encode({"access_token": value}))
    else:
        out.print(plain(value), soft_wrap=True)
    return Exit.OK


def add_user(
    name: str,
    /,
    *,
    scope: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    generate: Flag = False,
    replace: Flag = False,
    users: Users = Path(DEFAULT_USERS),
) -> int:
    """Add a user.

    Parameters
    ----------
    name
        Name of the user; a prompt or stdin supplies the password.
    scope
        Scope of the user, which can be repeated: job:read, job:write, job:debug, worker, worker:PATTERN,
        admin (default: the first two).
    generate
        Generate the password and print it.
    replace
        Replace an existing user.
    users
        File with the users.
    """
    with require_auth_extra():
        from raincheck.auth.passwords import hash_password
    scopes = parse_scopes(scope or DEFAULT_SCOPES)
    users_file.check_name(name)
    password = secrets.token_urlsafe(24) if generate else read_password(f"Password for {name}: ", twice=True)
    users_file.add_user(users, name, hash_password(password), scopes, replace=replace)
    note(f"{name} may now sign in. Scopes: {' '.join(sorted(scopes))}. File: {users}")
    if generate:
        out.print(password)
    return Exit.OK


def list_users(
    *, users: Users = Path(DEFAULT_USERS), json: Annotated[bool, Parameter(show_default=False)] = False
) -> int:
    """List users.

    Parameters
    ----------
    users
        File with the users.
    json
        Print the users as JSON.
    """
    listed = list(users_file.read_users(users))
    if json:
        documents = [
            {"name": user.name, "scopes": user.scopes, "created_at": user.created_at} for user in listed
        ]
        print_json(msgspec.json.encode(documents))
        return Exit.OK
    rows = new_table("NAME", "SCOPES", "CREATED")
    for user in listed:
        rows.add_row(plain(user.name), " ".join(user.scopes), plain(user.created_at))
    show(rows)
    return Exit.OK


def remove_user(name: str, /, *, users: Users = Path(DEFAULT_USERS)) -> int:
    """Remove a user and invalidate their tokens.

    Parameters
    ----------
    name
        Name of the user.
    users
        File with the users.
    """
    users_file.remove_user(users, name)
    note(f"Removed the user {name}. Their tokens are no longer valid.")
    return Exit.OK


def add_key(file: File, /, *, algorithm: Literal["HS256", "EdDSA"] = "HS256") -> int:
    """Add a key that signs all new tokens. Existing tokens stay valid.

    Parameters
    ----------
    file
        File with the keys.
    algorithm
        Signing algorithm: HS256 uses a shared secret, EdDSA a private and a public key.
    """
    with require_auth_extra():
        from raincheck.auth import keys
    kid = keys.add_key(file, algorithm)
    note(f"Added a key to {file}. It signs all new tokens. Its id:")
    out.print(kid)
    return Exit.OK


def list_keys(file: File, /) -> int:
    """List keys. The first one signs new tokens.

    Parameters
    ----------
    file
        File with the keys.
    """
    with require_auth_extra():
        from raincheck.auth import keys
    rows = new_table("KEY", "ALGORITHM")
    for jwk in keys.read_keys(file):
        rows.add_row(plain(str(jwk.get("kid", ""))), "HS256" if jwk.get("kty") == "oct" else "EdDSA")
    show(rows)
    return Exit.OK


def remove_key(file: File, kid: str, /) -> int:
    """Remove a key and invalidate the tokens signed with it.

    Parameters
    ----------
    file
        File with the keys.
    kid
        Id of the key.
    """
    with require_auth_extra():
        from raincheck.auth import keys
    keys.remove_key(file, kid)
    note(f"Removed the key {kid}. Tokens signed with it are no longer valid.")
    return Exit.OK


def read_password(prompt: str, *, twice: bool = False) -> str:
    """Read a password from a prompt on a terminal, else the first line of stdin. Raises `UsageError`."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise UsageError(
                "stdin has no password. Write the password to stdin, or run the command on a terminal."
            )
        return line
    password = getpass(prompt)
    if twice and getpass("Repeat the password: ") != password:
        raise UsageError("the two passwords differ")
    return password


def _login_name() -> str:
    try:
        return getuser()
    except (OSError, KeyError):
        raise UsageError("cannot find your login name. Use --username NAME.") from None


def _format_duration(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 7200 else f"{max(1, seconds // 60)} min"
