"""Commands that manage the file of signing keys: key add, list, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raincheck.auth import require_auth_extra
from raincheck.cli.exit_codes import Exit
from raincheck.cli.terminal import new_table, note, out, plain, show

File = Annotated[Path, Parameter(env_var="RAINCHECK_SECRET_FILE", metavar="FILE")]


def add(file: File, /, *, algorithm: Literal["HS256", "EdDSA"] = "HS256") -> int:
    """Add a key that signs all new tokens. Existing tokens stay valid.

    Parameters
    ----------
    file
        File with the keys.
    algorithm
        Signing algorithm: HS256 uses a shared secret, EdDSA a private and a public key.
    """
    with require_auth_extra():
        from raincheck.auth.keyfile import add_key
    kid = add_key(file, algorithm)
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
        from raincheck.auth.keyfile import read_keys
    rows = new_table("KEY", "ALGORITHM")
    for jwk in read_keys(file):
        rows.add_row(plain(str(jwk.get("kid", ""))), "HS256" if jwk.get("kty") == "oct" else "EdDSA")
    show(rows)
    return Exit.OK


def remove(file: File, kid: str, /) -> int:
    """Remove a key and invalidate the tokens signed with it.

    Parameters
    ----------
    file
        File with the keys.
    kid
        Id of the key.
    """
    with require_auth_extra():
        from raincheck.auth.keyfile import remove_key
    remove_key(file, kid)
    note(f"Removed the key {kid}. Tokens signed with it are no longer valid.")
    return Exit.OK
