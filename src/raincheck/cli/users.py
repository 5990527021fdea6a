"""Commands that manage the file of users: user add, list, remove."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from raincheck.auth import DEFAULT_SCOPES, DEFAULT_USERS, parse_scopes, require_auth_extra
from raincheck.auth import users as file
from raincheck.cli.exit_codes import Exit
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
        Name of the user; a prompt or stdin supplies the password.
    scope
        Scope of the user, which can be repeated: job:read, job:write, worker, admin (default: the first two).
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
    file.check_name(name)
    password = secrets.token_urlsafe(24) if generate else read_password(f"Password for {name}: ", twice=True)
    file.add_user(users, name, hash_password(password), scopes, replace=replace)
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
    listed = list(file.read_users(users))
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


def remove(name: str, /, *, users: Users = Path(DEFAULT_USERS)) -> int:
    """Remove a user and invalidate their tokens.

    Parameters
    ----------
    name
        Name of the user.
    users
        File with the users.
    """
    file.remove_user(users, name)
    note(f"Removed the user {name}. Their tokens are no longer valid.")
    return Exit.OK
