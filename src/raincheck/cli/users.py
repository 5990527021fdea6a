"""Commands of who runs a server: the file of users."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from raincheck.auth import DEFAULT_USERS, USUAL, installed, scopes_of
from raincheck.auth import users as file
from raincheck.cli.exits import Exit
from raincheck.cli.login import read_password
from raincheck.cli.terminal import new_table, note, out, plain, print_json, show

Flag = Annotated[bool, Parameter(show_default=False)]
Users = Annotated[Path, Parameter(env_var="RAINCHECK_USERS", metavar="FILE")]


def add(
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
        The user's name. The password is asked for, or read from stdin.
    scope
        What the user may do: job:read, job:write, worker or admin; again for another. Else the first two.
    generate
        Make a password up, and print it: for programs.
    replace
        Change a user that is there.
    users
        The file of users.
    """
    with installed():
        from raincheck.auth.passwords import hash_password
    scopes = scopes_of(scope or USUAL)
    file.check_name(name)
    password = secrets.token_urlsafe(24) if generate else read_password(f"Password for {name}: ", twice=True)
    file.add_user(users, name, hash_password(password), scopes, replace=replace)
    note(f"{name} may now sign in, with {' '.join(sorted(scopes))}; in {users}")
    if generate:
        out.print(password)
    return Exit.OK


def list_users(
    *, users: Users = Path(DEFAULT_USERS), json: Annotated[bool, Parameter(show_default=False)] = False
) -> int:
    """List the users.

    Parameters
    ----------
    users
        The file of users.
    json
        Print JSON.
    """
    found = list(file.read_users(users))
    if json:
        shown = [{"name": user.name, "scopes": user.scopes, "created_at": user.created_at} for user in found]
        print_json(msgspec.json.encode(shown))
        return Exit.OK
    rows = new_table("NAME", "SCOPES", "CREATED")
    for user in found:
        rows.add_row(plain(user.name), " ".join(user.scopes), plain(user.created_at))
    show(rows)
    return Exit.OK


def remove(name: str, /, *, users: Users = Path(DEFAULT_USERS)) -> int:
    """Remove a user, whose tokens are refused from now on.

    Parameters
    ----------
    name
        The user's name.
    users
        The file of users.
    """
    file.remove_user(users, name)
    note(f"{name} may no longer sign in")
    return Exit.OK
