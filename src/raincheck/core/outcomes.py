"""How attempts end, for every worker: the triggers for a result, an exception and a timeout."""

from __future__ import annotations

from typing import NamedTuple

from raincheck.core.limits import Limits
from raincheck.core.model import Attempt, FailureType, Problem, RetryOptions
from raincheck.core.retry import names_of
from raincheck.core.triggers import Failed, Succeeded

DETAIL_LIMIT = 2000
"""Characters of an exception's message that are stored."""


class Raised(NamedTuple):
    """An exception of a function as plain data.

    ``names`` are those of its class and its bases, at least one; ``traceback`` is text. ``fatal``: another
    attempt would fail in the same way. ``retry_after`` is the pause in seconds that it asks for.
    """

    names: tuple[str, ...]
    message: str
    traceback: str = ""
    fatal: bool = False
    retry_after: float | None = None


def succeeded(
    attempt: Attempt, function: str, result: bytes, data: bytes | None, limits: Limits
) -> Succeeded | Failed:
    """The attempt returned ``result`` (JSON) and changed ``data``: it has failed if they are too large."""
    problem = size_problem(function, result, data, limits)
    if problem is not None:
        return Failed(attempt, problem, fatal=True)
    return Succeeded(attempt, result, data, limits.results)


def size_problem(function: str, result: bytes, data: bytes | None, limits: Limits) -> Problem | None:
    """The problem of a result or changed data over the limit; None: both can be stored."""
    for what, value in (("result", result), ("data", data)):
        if value is not None and len(value) > limits.result:
            return Problem(
                type=FailureType.RESULT_TOO_LARGE,
                title=f"The {what} of {function} is too large",
                detail=f"it has {len(value)} bytes, at most {limits.result} are kept: store it elsewhere and "
                "return where",
            )
    return None


def failed(attempt: Attempt, function: str, raised: Raised, options: RetryOptions, chance: float) -> Failed:
    """The attempt raised an exception; ``options`` apply if the step has none of its own."""
    problem = Problem(
        type=FailureType.FUNCTION_FAILED,
        title=f"{function} raised {raised.names[0]}",
        detail=raised.message,
        exception=raised.names[0],
    )
    return Failed(
        attempt,
        problem,
        raised.names,
        options,
        raised.fatal,
        raised.retry_after,
        chance,
        raised.traceback,
    )


def timed_out(
    attempt: Attempt, function: str, seconds: float, options: RetryOptions, traceback: str, chance: float
) -> Failed:
    """The attempt took longer than ``seconds``; ``traceback`` shows where the function was."""
    problem = Problem(
        type=FailureType.TIMEOUT,
        title=f"{function} took too long",
        detail=f"an attempt may take {seconds:g} s",
        exception="TimeoutError",
    )
    names = names_of(TimeoutError)
    return Failed(attempt, problem, names, options, chance=chance, traceback=traceback)


def cut_message(message: str) -> str:
    """The message of an exception, as long as it is stored, in valid UTF-8."""
    return message[:DETAIL_LIMIT].encode("utf-8", "replace").decode("utf-8")
