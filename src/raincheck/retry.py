"""When to try again: pure arithmetic on `RetryOptions`."""

from __future__ import annotations

from collections.abc import Iterable

from raincheck.model import RetryOptions


def pause(options: RetryOptions, attempts: int, chance: float) -> float:
    """Seconds to wait after ``attempts`` failed attempts; ``chance`` in [0, 1) sets the jitter."""
    try:
        full = options.delay * options.backoff ** (attempts - 1)
    except OverflowError:
        full = options.max_delay
    full = min(full, options.max_delay)
    return full * (1.0 - options.jitter * chance)


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
