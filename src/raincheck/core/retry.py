"""Retry policies: pauses and conditions, computed from `RetryOptions`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from raincheck.core.errors import RetryLater
from raincheck.core.model import MAX_SECONDS, RetryOptions

RETRY_LATER = f"{RetryLater.__module__}.{RetryLater.__qualname__}"
"""The full name of `RetryLater`."""


class Backoff:
    """Exponential backoff: each pause is twice as long as the previous one, at most ``longest`` seconds."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._pause = first
        self.is_on = False
        """Whether `next` was called since the last success."""

    def next(self, chance: float) -> float:
        """Seconds to wait before the next attempt; ``chance`` in [0, 1) varies them by up to a half."""
        self.is_on = True
        pause, self._pause = self._pause, min(2 * self._pause, self._longest)
        return pause * (0.5 + chance)

    def reset(self) -> None:
        """Note a success: start again with the shortest pause."""
        self._pause = self._first
        self.is_on = False


def pause(options: RetryOptions, attempts: int, chance: float, retry_after: float | None = None) -> float:
    """Seconds to wait after ``attempts`` failed attempts; ``chance`` in [0, 1) sets the jitter.

    ``retry_after`` of the exception takes precedence over the options, also over ``max_delay``.
    """
    if retry_after is not None:
        return min(max(0.0, retry_after), MAX_SECONDS)
    try:
        full = options.delay * options.backoff ** (attempts - 1)
    except OverflowError:
        full = options.max_delay if options.delay else 0.0
    return min(full, options.max_delay) * (1.0 - options.jitter * chance)


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds from ``now`` in a ``Retry-After`` header (RFC 9110 §10.2.3); None: no number and no date."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
        return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def check(options: RetryOptions) -> None:
    """Raise `msgspec.ValidationError` unless the options are within their bounds.

    msgspec does not check values that are made in Python, but a record with such values cannot be decoded.
    """
    msgspec.convert(msgspec.structs.asdict(options), RetryOptions)


def retryable(options: RetryOptions, names: Iterable[str]) -> bool:
    """Whether to retry after an exception; ``names`` are the names of its class and base classes.

    `RetryLater` needs no entry in ``retry_on``: the function asks for a retry.
    """
    classes = frozenset(names)
    if classes.intersection(options.fail_on):
        return False
    return not options.retry_on or RETRY_LATER in classes or bool(classes.intersection(options.retry_on))


def names_of(exception: type[BaseException]) -> tuple[str, ...]:
    """The names of an exception class and its base classes in options, without and with their module."""
    names: list[str] = []
    for base in exception.__mro__[:-1]:
        names.append(base.__qualname__)
        if base.__module__ != "builtins":
            names.append(f"{base.__module__}.{base.__qualname__}")
    return tuple(names)
