"""Log records that name their job: the running attempt, a filter that adds it to records, and two formats.

raincheck writes to loggers below ``raincheck`` and changes nothing in `logging` by itself. The commands of
raincheck call `configure`. A program with its own configuration adds `JobContextFilter` to its handlers.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any, Literal, Self, TextIO

import msgspec

from raincheck.core.clock import to_datetime
from raincheck.core.model import Claim
from raincheck.core.text import plain, plain_json

__all__ = [
    "CurrentAttempt",
    "Format",
    "JSONFormatter",
    "JobContextFilter",
    "Level",
    "TextFormatter",
    "configure",
    "current_attempt",
]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

CHATTY = ("asyncio", "httpcore2", "httpx2")
"""Loggers of libraries whose records below WARNING are about the library itself."""


class CurrentAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt: the id of its job, its function, its number (`Context.attempt`) and its worker."""

    job: str
    function: str
    attempt: int
    worker: str

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """The attempt of a claim."""
        step = claim.step
        number = step.retry_count + step.lost_count + 1
        return cls(claim.job.id, step.function, number, claim.lease.worker)


running: ContextVar[CurrentAttempt | None] = ContextVar("raincheck-attempt", default=None)
"""The attempt that the running code belongs to; a worker sets it around each call of a function."""


def current_attempt() -> CurrentAttempt | None:
    """The attempt whose function calls this; None outside of functions, and in threads that they start."""
    return running.get()


class JobContextFilter(logging.Filter):
    """Adds ``job``, ``function``, ``attempt`` and ``worker`` to the records of running functions.

    Add it to handlers: a filter of a logger does not see the records of the loggers below it. A record
    keeps a field that it has already.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; returns True."""
        attempt = running.get()
        if attempt is not None:
            for name in attempt.__struct_fields__:
                if not hasattr(record, name):
                    setattr(record, name, getattr(attempt, name))
        return True


class TextFormatter(logging.Formatter):
    """Formats records as text, with control characters escaped.

    If a record belongs to an attempt and its message does not name the job, ``[job function]`` is put before
    the message, from the second attempt on ``[job function, attempt 2]``. ``layout`` is the format.
    """

    def __init__(self, layout: str = "%(asctime)s %(levelname)-7s %(name)s: %(message)s") -> None:
        super().__init__(layout)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """The line of a record, without its traceback."""
        job = getattr(record, "job", None)
        if job is not None and str(job) not in record.message:
            number = getattr(record, "attempt", 1)
            again = "" if number == 1 else f", attempt {number}"
            record.message = f"[{job} {getattr(record, 'function', '')}{again}] {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; only tracebacks and messages with newlines have more than one line."""
        return plain(super().format(record))


class JSONFormatter(logging.Formatter):
    """Formats each record as a JSON object on one line.

    ``time`` (RFC 3339, UTC), ``level``, ``logger`` and ``message``; then the fields of the record, such as
    ``job``, ``function``, ``attempt`` and those of ``extra``; and ``exception`` and ``stack`` as text. A
    field with one of these names gets an underscore at its end. A value that is not JSON becomes its text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        fields = fields_of(record)
        exception = exception_of(record, self)
        document = {
            "time": to_datetime(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _bare_message(record, fields, exception),
        }
        if exception:
            document["exception"] = exception
            if fields.get("exception") is exception:
                del fields["exception"]
        if record.stack_info:
            document["stack"] = self.formatStack(record.stack_info)
        for name, value in fields.items():
            document[f"{name}_" if name in _OWN else name] = value
        return to_line(document)


_OWN = frozenset({"time", "level", "logger", "message", "exception", "stack"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""The attributes of every record, and one that uvicorn adds for terminals."""


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was added to a record: by ``extra``, or by a filter."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def exception_of(record: logging.LogRecord, formatter: logging.Formatter) -> str | None:
    """The traceback of a record as text; None: it has none. Records of failed attempts have it as a field."""
    if record.exc_text is None and record.exc_info:
        return formatter.formatException(record.exc_info)
    return record.exc_text or getattr(record, "exception", None)


def to_line(document: dict[str, Any]) -> str:
    """A document as JSON on one line; values that are not JSON become their text. Never raises."""
    try:
        encoded = _encode(document)
    except Exception:  # noqa: BLE001 - keys that are no text, lone surrogates, cycles
        encoded = _encode({plain(str(name)): _as_json(value) for name, value in document.items()})
    return plain_json(encoded.decode())


def _as_json(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(_encode(value))
    except Exception:  # noqa: BLE001 - as above
        return msgspec.Raw(_encode(plain(_text_of(value))))


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - raised by the class of the value
        return f"<{type(value).__name__}: {type(error).__name__}>"


_encode = msgspec.json.Encoder(enc_hook=_text_of).encode


def _bare_message(record: logging.LogRecord, fields: dict[str, Any], exception: str | None) -> str:
    """The message without what has fields: the traceback below it, and the job that `Context.log` names."""
    message = record.getMessage().removesuffix(f"\n{exception}")
    return message.removeprefix(f"[{fields.get('job')} {fields.get('function')}] ")


def configure(level: Level = "info", format: Format = "text", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Write all records of ``level`` and above to ``stream`` (default: stderr), in this ``format``.

    This is what the commands of raincheck do. It replaces the handlers of the root logger. Records of running
    functions name their job, and those below WARNING of asyncio and of HTTP clients are left out.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    use(handler, level)


def use(handler: logging.Handler, level: Level) -> None:
    """Make ``handler`` the only one of the root logger, with records that name their job."""
    handler.addFilter(JobContextFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
