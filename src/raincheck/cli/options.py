"""Options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

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


HERE = Connection()
"""What holds unless options say otherwise."""
