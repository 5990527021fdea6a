"""Options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
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
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print JSON, and nothing else, to stdout."""

    def client(self) -> Client:
        """A client of the server. What fails is told at once, and not tried again."""
        from raincheck.client import Client  # only commands that ask a server load it

        return Client(self.url, patience=0.0)


HERE = Connection()
"""What holds unless options say otherwise."""
