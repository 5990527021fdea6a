"""Every exception of raincheck.

RaincheckError
├── InvalidInput             the input is invalid: fix the named fields and retry
│   └── InvalidArguments     the arguments do not fit the function's signature
├── NotFound                 no such job or function: check the id or the name
│   └── Gone                 the job ended and was removed after its result_ttl: submit it again
├── WrongState               the state of the job does not allow it: check the state
├── IdempotencyMismatch      the key was used for another request: use a new key
├── NotSignedIn              no valid token: sign in
├── NotAllowed               the token lacks a scope: sign in with a token that has it
├── TooManyAttempts          too many attempts to sign in: wait for retry_after seconds
├── TooLarge                 over a limit: send less; the message names the limit
├── RegistrationError        a function cannot be registered: the message says what to change
│   └── RegisteredTooLate    the app has started: register functions before
├── ConfigError              the configuration is invalid: the message says what to change
│   └── InvalidFile          a file is invalid: each fault names file, line and field
├── TargetError              TARGET is not an app: use module:app or path/to/file.py:app
├── JobFailed                the job ended as ``failed``: its error says why
│   └── JobCancelled         the job ended as ``cancelled``
├── Unfinished               the job has not ended within the wait: wait longer, or cancel it
├── UnexpectedResult         a result does not have the requested type
├── Unreachable              no raincheck server responded: check the URL, or retry
├── Refused                  the server refused for another reason: see its problem
├── NotJSON                  a value cannot be encoded as JSON: use plain data
├── RetryLater               raised by a function: the attempt failed, retry after a pause
├── DoNotRetry               raised by a function: the attempt failed, do not retry
├── IllegalTransition        the lifecycle has no such transition: a bug, please report it
└── StoreError               the store operation failed; a write may have been carried out
    ├── StoreUnavailable     unreachable or busy: retry, submits with the same idempotency key
    ├── StoreFull            no space left: free some space, then retry
    └── StoreUnusable        not a raincheck store, or of a newer version: check the URL
"""

from __future__ import annotations

from typing import Any, NamedTuple

from raincheck.core.text import short


class Fault(NamedTuple):
    """One error of an input: ``detail`` says what is wrong, ``pointer`` (RFC 6901) where."""

    detail: str
    pointer: str = ""


class RaincheckError(Exception):
    """The base class of all errors that raincheck raises.

    ``problem`` is the problem document, if a server responded with one.
    """

    problem: Any = None


MAX_FAULTS = 50
"""Faults that one error lists at most, so that a response is not much longer than its request."""


class InvalidInput(RaincheckError):
    """The input is invalid; ``faults`` name the fields. Nothing was changed."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults[:MAX_FAULTS]
        super().__init__("; ".join(_sentence(fault) for fault in self.faults))


def _sentence(fault: Fault) -> str:
    return f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail


def checked_id(value: object) -> str:
    """The id of a job. Raises `InvalidInput` for another value, such as the document of the job."""
    if not isinstance(value, str):
        hint = ": write job.id" if hasattr(value, "id") else ""
        raise InvalidInput(Fault(f"expected the id of a job, got {short(value)}{hint}"))
    return value


class InvalidArguments(InvalidInput):
    """The arguments do not fit the function's signature."""


class NotFound(RaincheckError):
    """No such job or function."""


class Gone(NotFound):
    """The job ended, and was removed after its ``result_ttl``."""


class WrongState(RaincheckError):
    """The state of the job does not allow the operation."""


class IdempotencyMismatch(RaincheckError):
    """The idempotency key was used for a request with different content."""


class NotSignedIn(RaincheckError):
    """There is no valid token; or the name or the password is wrong."""


class NotAllowed(RaincheckError):
    """The caller is known and may not do this. ``scope`` is the missing scope, if one is missing.

    ``faults`` name the fields of the request that are not allowed.
    """

    def __init__(self, message: str, *faults: Fault, scope: str | None = None) -> None:
        super().__init__(message)
        self.faults = faults[:MAX_FAULTS]
        self.scope = scope


class TooManyAttempts(RaincheckError):
    """Attempts to sign in are refused for another ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooLarge(RaincheckError):
    """A value is over a limit; the message names the limit."""


class RegistrationError(RaincheckError):
    """A function cannot be registered."""


class RegisteredTooLate(RegistrationError):
    """The app has started; its functions cannot change any more."""


class ConfigError(RaincheckError):
    """The configuration is invalid."""


class FileFault(NamedTuple):
    """One error of a file: ``line`` (from 1) and ``pointer`` say where, ``detail`` says what is wrong."""

    file: str
    line: int
    pointer: str
    detail: str

    def __str__(self) -> str:
        field = f"{self.pointer}: " if self.pointer else ""
        return f"{self.file}:{self.line}: {field}{self.detail}"


class InvalidFile(ConfigError):
    """A file is invalid; ``faults`` name each error."""

    def __init__(self, *faults: FileFault) -> None:
        self.faults = faults[:MAX_FAULTS]
        super().__init__("\n".join(map(str, self.faults)))


class TargetError(RaincheckError):
    """A TARGET does not name an app."""


class JobFailed(RaincheckError):
    """The job ``job_id`` ended as ``failed``; ``problem`` is its error."""

    def __init__(self, message: str, *, job_id: str, problem: Any = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.problem = problem


class JobCancelled(JobFailed):
    """The job ended as ``cancelled``."""


class Unfinished(RaincheckError):
    """A job has not ended within the wait, and continues. ``job`` is its handle."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job


class UnexpectedResult(RaincheckError):
    """The result of a job does not have the requested type."""


class Unreachable(RaincheckError):
    """No raincheck server responded.

    The request may have been carried out. ``job_id`` is the job that the call waited for, if any.
    """

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class Refused(RaincheckError):
    """The server refused the request for a reason without its own error class: see ``problem``."""


class NotJSON(RaincheckError):
    """A value cannot be encoded as JSON."""


class RetryLater(RaincheckError):
    """Raised by a function: the attempt failed; retry it after ``retry_after`` seconds."""

    def __init__(self, message: str = "", *, retry_after: float) -> None:
        super().__init__(message or f"asked to be retried in {retry_after:g} s")
        self.retry_after = retry_after


class DoNotRetry(RaincheckError):
    """Raised by a function: the attempt failed; do not retry it."""


class IllegalTransition(RaincheckError):
    """The lifecycle has no such transition."""


class StoreError(RaincheckError):
    """A store operation failed.

    It is not known whether a write was carried out: the connection may have failed after it, and with
    ``ack=fsync`` or ``ack=replicated`` a write can be there that is not yet as durable as requested.
    """


class StoreUnavailable(StoreError):
    """The store cannot be reached or is busy; the same call may succeed later."""


class StoreFull(StoreError):
    """The store has no space left; calls succeed again when there is space."""


class StoreUnusable(StoreError):
    """The URL does not name a store that this version can use."""
