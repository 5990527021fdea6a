"""Options of all commands that call a server."""

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
    """The server to call, and the output format."""

    url: Annotated[str, Parameter(env_var="RAINCHECK_URL", metavar="URL")] = DEFAULT_URL
    """URL of the server."""
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """File with the token to send (default: RAINCHECK_TOKEN, else the token of raincheck login)."""
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print the response as JSON."""

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the server that sends the stored token. It sends no request twice."""
        from raincheck.cli.credentials import token_for  # imported here to keep --help quick
        from raincheck.client import Client
        from raincheck.core.errors import NotSignedIn

        with Client(self.url, token=token_for(self.url, self.token_file), patience=0.0) as client:
            try:
                yield client
            except NotSignedIn as error:
                error.add_note(f"Sign in with: raincheck login --url {client.url}")
                raise


DEFAULT_CONNECTION = Connection()
