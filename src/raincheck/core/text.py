"""Values of users as text: for a terminal or a log, and for the messages of errors; patterns of names."""

from __future__ import annotations

import re
from datetime import timedelta

TRACEBACK_LIMIT = 16 * 1024
"""Bytes of a traceback that are kept: its head and its tail."""

LINE_LIMIT = 2000
"""Characters of a line that are kept. The message of an exception can be of any length."""

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text with control characters, and those that change the text direction, escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def plain_json(document: str) -> str:
    """A JSON document with the same characters escaped as JSON escapes them."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def matches(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern, where ``*`` matches any characters.

    Not by a regular expression: one with many ``*`` can take hours.
    """
    head, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    *middle, tail = parts
    at = len(head)
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return text.startswith(head) and text.endswith(tail) and len(text) - len(tail) >= at


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d|w|sec|min|hour|day|week)[a-z]*")

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
"""The seconds of units of time, by what they are written as."""


def short(value: object) -> str:
    """A value in an error message: its type and the beginning of its text."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def seconds_detail(value: object) -> str | None:
    """What is wrong with a number of seconds of another type, and what to write; None: the type is right."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else None
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip().lower())):
        seconds = float(match[1]) * UNITS[match[2] if match[2] == "ms" else match[2][0]]
    hint = "" if seconds is None else f": write {seconds:.15g}"
    return f"must be a number of seconds, got {short(value)}{hint}"


def cut_text(text: str, limit: int = TRACEBACK_LIMIT) -> str:
    """The head and the tail of a text, with its long lines cut: at most ``limit`` bytes of valid UTF-8."""
    lines = [f"{line[:LINE_LIMIT]} ..." if len(line) > LINE_LIMIT else line for line in text.splitlines()]
    encoded = "\n".join(lines).encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    half = limit // 2 - 50
    head, tail = encoded[:half], encoded[-half:]
    head = head[: head.rfind(b"\n") + 1] or head
    tail = tail[tail.find(b"\n") + 1 :] or tail
    left_out = len(encoded) - len(head) - len(tail)
    note = f"... {left_out} bytes left out ...\n".encode()
    return (head + note + tail).decode("utf-8", "ignore")
