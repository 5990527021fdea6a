"""Logging to stderr: short and coloured on a terminal, complete and plain elsewhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rich.text import Text

from raincheck.cli.terminal import err, plain

if TYPE_CHECKING:
    from raincheck.cli.options import Level

_STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class TerminalHandler(logging.Handler):
    """Prints records on a terminal. Control characters are escaped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record. Never raises."""
        try:
            line = Text.assemble(
                (f"{self.formatter.formatTime(record, '%H:%M:%S')}  ", "dim"),  # type: ignore[union-attr]
                (f"{record.levelname.lower():8}", _STYLES.get(record.levelname, "")),
                plain(self.format(record)),
            )
            err.print(line, soft_wrap=True)
        except Exception:  # noqa: BLE001 - as logging.StreamHandler does
            self.handleError(record)


class PlainFormatter(logging.Formatter):
    """Formats records for files and pipes."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, with control characters escaped."""
        return plain(super().format(record))


def set_up_logging(level: Level) -> None:
    """Log records of ``level`` and above to stderr."""
    handler: logging.Handler
    if err.is_terminal:
        handler = TerminalHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("asyncio", "httpcore2", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
