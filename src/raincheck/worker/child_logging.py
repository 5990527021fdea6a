"""Log records of a child process: the child sends each to its parent, whose handlers get it.

So a record is written once, in the format of the parent, whichever process it is from. The child has the
levels that the loggers of the parent had when it started, and no handlers of its own except those that
functions add. Nothing is lost: a child that logs faster than its parent handles records waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any

import msgspec

from raincheck.core.clock import thread_time
from raincheck.logs import JobContextFilter, to_line

SHARE = 0.25
"""The share of its time that a thread of the parent spends on the records of a child, at most."""

REST = 0.02
"""Seconds that such a thread rests at once, at least."""

_shown = logging.Handler()
"""Prints errors of handlers, as logging does."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Levels(msgspec.Struct):
    """The levels of loggers by name (of the root logger: ``root``), and `logging.disable`."""

    loggers: dict[str, int]
    disabled: int


def levels() -> Levels:
    """The levels of this process; loggers without a level of their own are left out."""
    own = {logger.name: logger.level for logger in _loggers() if logger.level}
    return Levels(own, logging.root.manager.disable)


def _loggers() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


class ChildLogging:
    """Sends the records of this process with ``send``."""

    def __init__(self, levels: Levels, send: Callable[[bytes], None]) -> None:
        self._levels = levels
        self._handler = _Forwarder(send)

    def set_up(self) -> None:
        """Give every logger its level in the parent, and remove its handlers: the parent has the same.

        Handlers that functions add later get the records of this process, too.
        """
        logging.disable(self._levels.disabled)
        names = self._levels.loggers.keys() - {"root"}
        for logger in [*map(logging.getLogger, names), *_loggers()]:
            logger.setLevel(self._levels.loggers.get(logger.name, logging.NOTSET))
            logger.handlers.clear()
            logger.propagate = True
        logging.root.addHandler(self._handler)


class _Forwarder(logging.Handler):
    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._formatter = logging.Formatter()
        self.addFilter(JobContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, as soon as it comes: the child may die with the next statement."""
        try:
            message = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = self._formatter.formatException(record.exc_info)
            line = to_line(vars(record) | {"msg": message, "args": None, "exc_info": None}).encode()
        except Exception:  # noqa: BLE001 - as logging.StreamHandler does
            self.handleError(record)
            return
        with suppress(OSError):  # the parent has gone, and this process ends
            self._send(line)


class ForwardedRecords:
    """The records that a child has sent.

    A thread that handles very many rests in between, so that the functions of the parent go on as before.
    """

    def __init__(self) -> None:
        self._owed = 0.0
        self._never_set = Event()

    def handle(self, line: bytes) -> None:
        """Hand a record to the logger of its name in this process; blocks."""
        since = thread_time()
        record = logging.makeLogRecord(_decode(line))
        try:
            logging.getLogger(record.name).handle(record)
        except Exception:  # noqa: BLE001 - a handler of the program is broken: no reason to fail the attempt
            _shown.handleError(record)
        self._owed += (thread_time() - since) * (1 / SHARE - 1)
        if self._owed > REST:
            self._never_set.wait(self._owed)
            self._owed = 0.0
