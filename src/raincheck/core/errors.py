"""Every exception of raincheck.

RaincheckError
├── InvalidInput             the caller's input is wrong: fix the named fields and send it again
│   └── InvalidArguments     the arguments do not fit the function's signature
├── NotFound                 no such job or function: check the id or the name
│   └── Gone                 the job ended long ago and was pruned: submit it again
├── WrongState               the job's state forbids it: look at its state first
├── IdempotencyMismatch      this key was used for another request: use a new key
├── NotSignedIn              no token, or none that holds: sign in
├── NotAllowed               the token does not allow it: ask for one with the scope
├── TooManyAttempts          too many tried to sign in: wait as long as it says
├── TooLarge                 over a stated limit: send less
├── RegistrationError        a function cannot be registered: the message says what to change
│   └── RegisteredTooLate    the app has started: register before that
├── ConfigError              what was configured cannot work: the message says what to change
│   └── InvalidFile          a file says what cannot be: each fault names file, line and field
├── TargetError              TARGET names no app: give module:app or path/to/file.py:app
├── JobFailed                the awaited job ended ``failed``: its error says why
│   └── JobCancelled         the awaited job ended ``cancelled``
├── Unfinished               the job has not ended in the time it was given: wait on, or cancel it
├── UnexpectedResult         a result is not of the type that was asked for
├── Unreachable              no server answered, or none of raincheck: check the URL, or try again
├── Refused                  the server refused for another reason: its problem says which
├── NotJSON                  a value cannot be written as JSON: return plain data
├── RetryLater               raised by a function: this attempt failed, try again after a while
├── DoNotRetry               raised by a function: this attempt failed, do not try again
├── IllegalTransition        a bug: the lifecycle has no such transition
└── StoreError               the store could not do it: nothing was changed
    ├── StoreUnavailable     unreachable or busy: try again in a while
    ├── StoreFull            no space left: free some, then go on
    └── StoreUnusable        not a raincheck store, or of a newer version: look at the URL
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One thing wrong with an input: what (``detail``) and where (``pointer``, RFC 6901)."""

    detail: str
    pointer: str = ""


class RaincheckError(Exception):
    """The root of all errors that raincheck raises.

    ``problem`` is the problem document of one that a server answered with.
    """

    problem: Any = None


MAX_FAULTS = 50
"""How many faults an error tells of: an answer shall not be much longer than what it answers."""


class InvalidInput(RaincheckError):
    """The caller's input is wrong; ``faults`` name each field. Nothing was changed."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults[:MAX_FAULTS]
        super().__init__("; ".join(_sentence(fault) for fault in self.faults))


def _sentence(fault: Fault) -> str:
    return f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail


class InvalidArguments(InvalidInput):
    """The arguments do not fit the function's signature."""


class NotFound(RaincheckError):
    """There is no such job or function."""


class Gone(NotFound):
    """The job existed, ended, and was pruned when its ``result_ttl`` had passed."""


class WrongState(RaincheckError):
    """The job's state forbids what was asked."""


class IdempotencyMismatch(RaincheckError):
    """The idempotency key was used before, for a request with another content."""


class NotSignedIn(RaincheckError):
    """There is no token, or none that holds; or the name or password is wrong."""


class NotAllowed(RaincheckError):
    """The token holds, and does not allow what was asked. ``scope`` is the one it lacks."""

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class TooManyAttempts(RaincheckError):
    """Nobody may try to sign in for another ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooLarge(RaincheckError):
    """Something is over a stated limit."""


class RegistrationError(RaincheckError):
    """A function cannot be registered as it is written."""


class RegisteredTooLate(RegistrationError):
    """The app has started; what it offers can no longer change."""


class ConfigError(RaincheckError):
    """What was configured cannot work."""


class FileFault(NamedTuple):
    """One thing wrong with a file: where (``line`` from 1, ``pointer`` to the field) and what."""

    file: str
    line: int
    pointer: str
    detail: str

    def __str__(self) -> str:
        field = f"{self.pointer}: " if self.pointer else ""
        return f"{self.file}:{self.line}: {field}{self.detail}"


class InvalidFile(ConfigError):
    """A file cannot be used; ``faults`` name every place."""

    def __init__(self, *faults: FileFault) -> None:
        self.faults = faults[:MAX_FAULTS]
        super().__init__("\n".join(map(str, self.faults)))


class TargetError(RaincheckError):
    """A TARGET does not lead to an app."""


class JobFailed(RaincheckError):
    """The awaited job ended ``failed``. ``job_id`` and ``problem`` say which and why."""

    def __init__(self, message: str, *, job_id: str, problem: Any = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.problem = problem


class JobCancelled(JobFailed):
    """The awaited job ended ``cancelled``."""


class Unfinished(RaincheckError):
    """A job has not ended in the time it was given, and goes on. ``job`` is the handle to it."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job


class UnexpectedResult(RaincheckError):
    """The result of a job is not of the type that was asked for."""


class Unreachable(RaincheckError):
    """No server answered, or what answered is no raincheck server.

    What was asked may have been done. ``job_id`` is the job that was being waited for, if any.
    """

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class Refused(RaincheckError):
    """The server refused, for a reason that has no error of its own: see ``problem``."""


class NotJSON(RaincheckError):
    """A value cannot be written as JSON."""


class RetryLater(RaincheckError):
    """Raised by a function: the attempt failed; try again in ``retry_after`` seconds."""

    def __init__(self, message: str = "", *, retry_after: float) -> None:
        super().__init__(message or f"asked to be retried in {retry_after:g} s")
        self.retry_after = retry_after


class DoNotRetry(RaincheckError):
    """Raised by a function: the attempt failed, and another would fail too."""


class IllegalTransition(RaincheckError):
    """The lifecycle knows no such transition."""


class StoreError(RaincheckError):
    """The store could not do what was asked; nothing was changed."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is busy; the same call may succeed in a while."""


class StoreFull(StoreError):
    """The store has no space left; it goes on once there is some."""


class StoreUnusable(StoreError):
    """What the URL names is not a store that this version can use."""
