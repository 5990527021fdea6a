"""What a caller prefers (RFC 7240): to wait for the result, or not to."""

from __future__ import annotations

import re
from typing import NamedTuple

from raincheck.server.http import Header, Request

_PREFERENCE = re.compile(
    r"(?:^|,)\s*([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,;\"]*))?", re.ASCII
)


class Waiting(NamedTuple):
    """How long to wait for the end of a job, and what of it the caller preferred."""

    seconds: float
    asked: bool = False
    respond_async: bool = False

    def applied(self, status: int) -> tuple[Header, ...]:
        """``Preference-Applied``: those preferences that an answer of this status honours."""
        honoured = ["respond-async"] * (self.respond_async and status == 202)
        honoured += [f"wait={self.seconds:g}"] * self.asked
        return ((b"preference-applied", ", ".join(honoured).encode()),) if honoured else ()


NOT_AT_ALL = Waiting(0.0)


def waiting(request: Request, default: float = 0.0) -> Waiting:
    """How long this request is to wait: ``wait=N``, or not at all, or the default.

    Never longer than the server's limit. Preferences unknown or unreadable are ignored.
    """
    most = request.engine.limits.wait
    header = request.headers.get(b"prefer")
    if header is None:
        return Waiting(min(default, most))
    preferences: dict[str, str] = {}
    for name, value in _PREFERENCE.findall(header.decode("latin-1")):
        preferences.setdefault(name.lower(), value.strip('"'))
    wait = preferences.get("wait", "")
    respond_async = "respond-async" in preferences
    if wait.isascii() and wait.isdigit():
        return Waiting(min(float(wait[:9]), most), True, respond_async)
    return Waiting(0.0 if respond_async else min(default, most), False, respond_async)
