"""Exit codes, for scripts to use."""

from __future__ import annotations

from enum import IntEnum

from raincheck.errors import (
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
from raincheck.model import Problem, State


class Exit(IntEnum):
    """What the exit code of ``raincheck`` says; ``raincheck --help`` lists them too."""

    OK = 0
    """Done what was asked."""
    FAILED = 1
    """The job failed or was cancelled."""
    USAGE = 2
    """Bad usage or bad input: a 4xx answer."""
    NOT_FOUND = 3
    """No such job or function, or it is gone."""
    UNAVAILABLE = 4
    """No server, or one that cannot do it now: a 5xx answer, or too many requests."""
    UNFINISHED = 5
    """The wait was over before the job was."""
    INTERRUPTED = 130
    """Ctrl-C."""


class UsageError(RaincheckError):
    """The command cannot be meant as it was given."""


_BAD_INPUT = (
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
    """The exit code that an error leads to."""
    if isinstance(error.problem, Problem):
        return _code_of_status(error.problem.status)
    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    return Exit.USAGE if isinstance(error, _BAD_INPUT) else Exit.UNAVAILABLE


def _code_of_status(status: int) -> Exit:
    if status in (404, 410):
        return Exit.NOT_FOUND
    return Exit.USAGE if status < 500 and status != 429 else Exit.UNAVAILABLE


def code_of_job(state: State) -> Exit:
    """The exit code of a command that looked at a job, or waited for its end."""
    if not state.ended:
        return Exit.UNFINISHED
    return Exit.OK if state is State.DONE else Exit.FAILED
