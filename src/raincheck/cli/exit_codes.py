"""The exit codes of ``raincheck``."""

from __future__ import annotations

from enum import IntEnum

from raincheck.core.errors import (
    ConfigError,
    InvalidInput,
    NotFound,
    RaincheckError,
    RegistrationError,
    StoreUnusable,
    TargetError,
    TooLarge,
    WrongState,
)
from raincheck.core.model import Problem, State


class Exit(IntEnum):
    """An exit code; ``raincheck --help`` lists them."""

    OK = 0
    """The command succeeded."""
    FAILED = 1
    """The job failed or was cancelled, a check of a worker failed, or worker processes kept dying."""
    USAGE = 2
    """Invalid usage or input: a 4xx response."""
    NOT_FOUND = 3
    """The job, function or group does not exist."""
    UNAVAILABLE = 4
    """No response, or the server is unavailable: a 5xx response, or 429."""
    UNFINISHED = 5
    """The wait ended before the job."""
    INTERRUPTED = 130
    """Ctrl-C, or the answer no to a question."""


RECYCLED = 75
"""The exit code by which a worker process asks the command that started it to replace it."""


class UsageError(RaincheckError):
    """The arguments of a command are invalid."""


_INVALID_INPUT = (
    ConfigError,
    InvalidInput,
    RegistrationError,
    StoreUnusable,
    TargetError,
    TooLarge,
    UsageError,
    WrongState,
)


def code_of(error: RaincheckError) -> Exit:
    """The exit code for an error."""
    if isinstance(error.problem, Problem):
        return _code_of_status(error.problem.status)
    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    return Exit.USAGE if isinstance(error, _INVALID_INPUT) else Exit.UNAVAILABLE


def _code_of_status(status: int) -> Exit:
    if status in (404, 410):
        return Exit.NOT_FOUND
    return Exit.USAGE if status < 500 and status != 429 else Exit.UNAVAILABLE


def code_of_job(state: State) -> Exit:
    """The exit code for the state of a job after a wait."""
    if not state.ended:
        return Exit.UNFINISHED
    return Exit.OK if state is State.DONE else Exit.FAILED
