"""Commands that sign in to a server: login, logout, token."""

from __future__ import annotations

import sys
from getpass import getpass, getuser
from urllib.parse import urlsplit

import msgspec

from raincheck.auth import Token
from raincheck.cli import credentials
from raincheck.cli.credentials import Credential
from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.options import DEFAULT_CONNECTION, Connection
from raincheck.cli.terminal import note, out, plain, print_json, warn
from raincheck.client import Client
from raincheck.client.requests import is_local
from raincheck.core.clock import now


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
    path = credentials.store(connection.url, Credential(name, token.access_token, now() + token.expires_in))
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
    deleted = credentials.delete(connection.url)
    note(f"Signed out of {connection.url}" if deleted else f"You are not signed in to {connection.url}")
    return Exit.OK


def token(*, connection: Connection = DEFAULT_CONNECTION) -> int:
    """Print the token that commands send to a server.

    For example: curl -H "Authorization: Bearer $(raincheck token)".
    """
    value = credentials.token_for(connection.url, connection.token_file)
    if value is None:
        raise UsageError(f"you are not signed in to {connection.url}. Run: raincheck login")
    if connection.json:
        print_json(msgspec.json.encode({"access_token": value}))
    else:
        out.print(plain(value), soft_wrap=True)
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
