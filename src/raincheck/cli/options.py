"""Options that commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from raincheck.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

Level = Literal["debug", "info", "warning", "error"]


@Parameter(name="*")
@dataclass(frozen=True)
class Connection:
    """Where the server is, and how its answers are shown."""

    url: Annotated[str, Parameter(env_var="RAINCHECK_URL", metavar="URL")] = DEFAULT_URL
    """Where the server is."""
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """A file with the token to send, instead of RAINCHECK_TOKEN or what raincheck login has stored."""
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print JSON, and nothing else, to stdout."""

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the server, signed in as ``raincheck login`` left it.

        What fails is told at once, and not tried again.
        """
        from raincheck.cli.credentials import token_for  # only commands that ask a server load all this
        from raincheck.client import Client
        from raincheck.errors import NotSignedIn

        with Client(self.url, token=token_for(self.url, self.token_file), patience=0.0) as client:
            try:
                yield client
            except NotSignedIn as error:
                error.add_note(f"Sign in with: raincheck login --url {client.url}")
                raise


HERE = Connection()
"""What holds unless options say otherwise."""
