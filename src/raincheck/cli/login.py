"""Commands of who calls a server that asks who calls: login, logout, token."""

from __future__ import annotations

import sys
from getpass import getpass, getuser
from urllib.parse import urlsplit

import msgspec

from raincheck.auth import Token
from raincheck.cli import credentials
from raincheck.cli.credentials import Credential
from raincheck.cli.exits import Exit, UsageError
from raincheck.cli.options import HERE, Connection
from raincheck.cli.terminal import note, out, plain, print_json, warn
from raincheck.client import Client
from raincheck.client.requests import is_local
from raincheck.clock import now


def login(*, username: str | None = None, scope: str | None = None, connection: Connection = HERE) -> int:
    """Sign in to a server, for the commands that follow.

    Parameters
    ----------
    username
        Who you are; the name you have here, if it is not said. The password is asked for, or read from stdin.
    scope
        Ask for no more than these scopes, divided by blanks.
    """
    name = username or _name()
    if urlsplit(connection.url).scheme == "http" and not is_local(connection.url):
        warn("whoever is on the way to this server can read the password: https is safe")
    body = {"username": name, "password": read_password(f"Password of {name}: ")}
    asked = msgspec.json.encode(body | ({"scope": scope} if scope else {}))
    with Client(connection.url, patience=0.0) as client:
        reply = client.request("POST", "/v1/token", asked)
    token = reply.read(Token)
    path = credentials.store(connection.url, Credential(name, token.access_token, now() + token.expires_in))
    if connection.json:
        print_json(
            msgspec.json.encode({"username": name, "expires_in": token.expires_in, "scope": token.scope})
        )
    else:
        until = _period(token.expires_in)
        note(f"Signed in to {connection.url} as {name} for {until}, with {token.scope}; kept in {path}")
    return Exit.OK


def logout(*, connection: Connection = HERE) -> int:
    """Forget the token for a server.

    It holds until it expires nevertheless, for whoever has a copy.
    """
    found = credentials.forget(connection.url)
    note(f"Signed out of {connection.url}" if found else f"You were not signed in to {connection.url}")
    return Exit.OK


def token(*, connection: Connection = HERE) -> int:
    """Print the token that commands send, for other programs.

    Such as curl -H "Authorization: Bearer $(raincheck token)".
    """
    found = credentials.token_for(connection.url, connection.token_file)
    if found is None:
        raise UsageError(f"you are not signed in to {connection.url}: raincheck login")
    if connection.json:
        print_json(msgspec.json.encode({"access_token": found}))
    else:
        out.print(plain(found), soft_wrap=True)
    return Exit.OK


def read_password(prompt: str, *, twice: bool = False) -> str:
    """A password: asked for on a terminal, else the first line of stdin. Raises `UsageError`."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise UsageError("no password came by stdin: it is read from there, or asked for on a terminal")
        return line
    password = getpass(prompt)
    if twice and getpass("Again: ") != password:
        raise UsageError("the two are not the same")
    return password


def _name() -> str:
    try:
        return getuser()
    except (OSError, KeyError):
        raise UsageError("say who you are, with --username") from None


def _period(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 7200 else f"{max(1, seconds // 60)} min"
