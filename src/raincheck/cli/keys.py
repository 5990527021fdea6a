"""Commands of who runs a server: the file of keys that tokens are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raincheck.auth import installed
from raincheck.cli.exits import Exit
from raincheck.cli.terminal import new_table, note, out, plain, show

File = Annotated[Path, Parameter(env_var="RAINCHECK_SECRET_FILE", metavar="FILE")]


def add(file: File, /, *, algorithm: Literal["HS256", "EdDSA"] = "HS256") -> int:
    """Add a key, that signs from now on; what older ones signed still holds.

    Parameters
    ----------
    file
        The file of keys.
    algorithm
        HS256: one secret signs and verifies. EdDSA: a private key signs, its public half verifies.
    """
    with installed():
        from raincheck.auth.keyfile import add_key
    kid = add_key(file, algorithm)
    note(f"{file} has a new key, which signs from now on:")
    out.print(kid)
    return Exit.OK


def list_keys(file: File, /) -> int:
    """List the keys; the first one signs.

    Parameters
    ----------
    file
        The file of keys.
    """
    with installed():
        from raincheck.auth.keyfile import read_keys
    rows = new_table("KEY", "ALGORITHM")
    for jwk in read_keys(file):
        rows.add_row(plain(str(jwk.get("kid", ""))), "HS256" if jwk.get("kty") == "oct" else "EdDSA")
    show(rows)
    return Exit.OK


def remove(file: File, kid: str, /) -> int:
    """Remove a key: what it signed no longer holds.

    Parameters
    ----------
    file
        The file of keys.
    kid
        The key's id.
    """
    with installed():
        from raincheck.auth.keyfile import remove_key
    remove_key(file, kid)
    note(f"tokens signed with {kid} no longer hold")
    return Exit.OK
