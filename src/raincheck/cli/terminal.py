"""Output to the terminal: two consoles, escaped user data, and logging to stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

import msgspec
from rich.console import Console, RenderableType
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from raincheck import logs
from raincheck.core.errors import InvalidInput, RaincheckError
from raincheck.core.model import ErrorDetail, Problem
from raincheck.core.text import plain as plain  # the commands import it from here
from raincheck.core.text import plain_json

_PIPE_WIDTH = 1000
"""Columns if the output is not a terminal: lines are neither cut nor wrapped."""

_STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error again: `raincheck.cli.main` handles it."""
        raise BrokenPipeError


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


out = _console()
err = _console(stderr=True)


def one_line(value: object, limit: int = 200) -> str:
    """A value as JSON on one line of at most ``limit`` characters."""
    return cut(msgspec.json.encode(value).decode(), limit)


def cut(text: str, limit: int = 200) -> str:
    """Text on one line of at most ``limit`` characters."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def show(*renderables: RenderableType, on: Console = out) -> None:
    """Print on stdout, or ``on`` stderr. If it is no terminal, trailing spaces of table rows are removed."""
    if on.is_terminal:
        on.print(*renderables, sep="\n")
        return
    with on.capture() as capture:
        on.print(*renderables, sep="\n")
    on.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    on.file.flush()


def new_table(*columns: str) -> Table:
    """A table without borders; the first column is never wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table


def json_text(document: bytes) -> Text:
    """JSON indented and coloured. Numbers keep their digits, and control characters are escaped."""
    return JSONHighlighter()(Text(_formatted(document, 2)))


def print_json(document: bytes) -> None:
    """Print a JSON document on stdout."""
    out.print(json_text(document), soft_wrap=True)


def print_json_line(document: bytes) -> None:
    """Print a JSON document on stdout, on one line."""
    out.file.write(f"{_formatted(document, -1)}\n")
    out.file.flush()


def _formatted(document: bytes, indent: int) -> str:
    return plain_json(msgspec.json.format(document, indent=indent).decode())


_logger = logging.getLogger("raincheck.cli")
_LEVELS = {"Error": logging.ERROR, "Warning": logging.WARNING}


def note(message: str, label: str = "", style: str = "dim") -> None:
    """Print a message on stderr; if the log is JSON, as a record of it."""
    if _logs_json():
        _logger.log(_LEVELS.get(label, logging.INFO), message)
        return
    head = (f"{label}: ", f"bold {style}") if label else ""
    err.print(Text.assemble(head, (plain(message), "" if label else style)), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    note(message, "Warning", "yellow")


def print_error(error: RaincheckError) -> None:
    """Print an error on stderr, with each fault and its pointer; if the log is JSON, as a record of it."""
    if _logs_json():
        _logger.error("%s", error)
    elif isinstance(problem := error.problem, Problem):
        note(problem.title, "Error", "red")
        if problem.detail and not problem.errors:
            err.print(Text(f"  {plain(problem.detail)}"), soft_wrap=True)
        _print_faults(problem.errors)
        for hint in getattr(error, "__notes__", ()):
            err.print(Text(f"  {plain(hint)}"), soft_wrap=True)
    elif isinstance(error, InvalidInput):
        note("Invalid input", "Error", "red")
        _print_faults(ErrorDetail(fault.detail, fault.pointer) for fault in error.faults)
    else:
        note(str(error), "Error", "red")


def _print_faults(faults: Iterable[ErrorDetail]) -> None:
    table = Table.grid(padding=(0, 2))
    for fault in faults:
        table.add_row("", Text(plain(fault.pointer or "/"), "bold"), Text(plain(fault.detail)))
    if table.row_count:
        err.print(table)


class TerminalHandler(logging.Handler):
    """Prints records on a terminal. Control characters are escaped."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.TextFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record. Never raises."""
        try:
            line = Text.assemble(
                (f"{self.formatter.formatTime(record, '%H:%M:%S')}  ", "dim"),  # type: ignore[union-attr]
                (f"{record.levelname.lower():8}", _STYLES.get(record.levelname, "")),
                self.format(record),
            )
            err.print(line, soft_wrap=True)
        except Exception:  # noqa: BLE001 - as logging.StreamHandler does
            self.handleError(record)


def _logs_json() -> bool:
    """Whether this command writes its log to stderr as JSON: then nothing else may stand there."""
    return any(isinstance(handler.formatter, logs.JSONFormatter) for handler in logging.root.handlers)


def set_up_logging(level: logs.Level, format: logs.Format) -> None:  # noqa: A002 - the name of the option
    """Log records of ``level`` and above to stderr; on a terminal, text is coloured."""
    if format == "text" and err.is_terminal:
        logs.use(TerminalHandler(), level)
    else:
        logs.configure(level, format)
