"""Text of users, fit for a terminal or a log: without characters that control it."""

from __future__ import annotations

import re

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text with control characters, and those that change the text direction, escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def plain_json(document: str) -> str:
    """A JSON document with the same characters escaped as JSON escapes them."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)
