"""When to try again: pure arithmetic on `RetryOptions`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from raincheck.core.model import MAX_SECONDS, RetryOptions


class Backoff:
    """Pauses between tries that follow each other: each twice as long, at most ``longest`` seconds."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._pause = first
        self.is_on = False
        """Whether there was a pause since the last success."""

    def next(self, chance: float) -> float:
        """Seconds to wait before the next try; ``chance`` in [0, 1) varies them by up to a half."""
        self.is_on = True
        pause, self._pause = self._pause, min(2 * self._pause, self._longest)
        return pause * (0.5 + chance)

    def reset(self) -> None:
        """A try has succeeded."""
        self._pause = self._first
        self.is_on = False


def pause(options: RetryOptions, attempts: int, chance: float, asked: float | None = None) -> float:
    """Seconds to wait after ``attempts`` failed attempts; ``chance`` in [0, 1) sets the jitter.

    What the exception ``asked`` for goes before the options, their ceiling too.
    """
    if asked is not None:
        return min(max(0.0, asked), MAX_SECONDS)
    try:
        full = options.delay * options.backoff ** (attempts - 1)
    except OverflowError:
        full = options.max_delay if options.delay else 0.0
    return min(full, options.max_delay) * (1.0 - options.jitter * chance)


def check(options: RetryOptions) -> None:
    """Raise `msgspec.ValidationError` unless the options are within their bounds.

    Those made in Python can be beyond them; a record with such could not be read again.
    """
    msgspec.convert(msgspec.structs.asdict(options), RetryOptions)


def retryable(options: RetryOptions, names: Iterable[str]) -> bool:
    """Whether an exception may be tried again; ``names`` are those of its class and its bases."""
    known = frozenset(names)
    if known.intersection(options.fail_on):
        return False
    return not options.retry_on or bool(known.intersection(options.retry_on))


def names_of(exception: type[BaseException]) -> tuple[str, ...]:
    """The names under which options may mention an exception class: bare and full, bases too."""
    names: list[str] = []
    for base in exception.__mro__[:-1]:
        names.append(base.__qualname__)
        if base.__module__ != "builtins":
            names.append(f"{base.__module__}.{base.__qualname__}")
    return tuple(names)
