"""Responses of a server, and the results and exceptions that they become."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from raincheck.core import errors
from raincheck.core.clock import now
from raincheck.core.errors import (
    Fault,
    JobCancelled,
    JobFailed,
    RaincheckError,
    Refused,
    UnexpectedResult,
    Unreachable,
)
from raincheck.core.model import Problem, State
from raincheck.core.retry import parse_retry_after
from raincheck.functions.results import ResultReader

if TYPE_CHECKING:
    from raincheck.engine.documents import JobDocument

logger = logging.getLogger("raincheck.client")

T = TypeVar("T")

_JOB_PATH = re.compile(r"/v1/job/([^/?#]+)$")
"""Finds the job's id in the ``instance`` of a problem about a job."""


class Reply(NamedTuple):
    """A response: its status, its headers (lower-case names) and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """The ``Retry-After`` header in seconds from now; None if there is none."""
        return parse_retry_after(self.headers.get("retry-after", ""), now())

    def read(self, kind: type[T]) -> T:
        """Decode the JSON body as ``kind``. Raises `Unreachable` if it has another form."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unreadable_response(error) from None


class CallResponse(Struct, frozen=True):
    """The fields that every response to a call has, whether it is a result or an unfinished job."""

    id: str
    state: State
    result: Raw = Raw(b"null")


class _ResultField(Struct, frozen=True):
    result: Raw


def unreadable_response(error: Exception) -> Unreachable:
    """The exception for a body that is not the expected document."""
    return Unreachable(
        f"cannot read the server's response: {error}. Check that the URL is a raincheck server."
    )


def error_from(reply: Reply, url: str) -> RaincheckError:
    """The exception for an error response."""
    problem = _parse_problem(reply)
    error = _foreign_response(reply, url) if problem is None else _error_of(problem, reply)
    error.problem, error.pause = problem, reply.retry_after or 0.0
    return error


def _foreign_response(reply: Reply, url: str) -> Unreachable:
    status = f"{reply.status} {_reason_phrase(reply.status)}".rstrip()
    message = f"{url} responded with {status}, and not as a raincheck server. Check the URL."
    return Unreachable(message, status=reply.status)


def _error_of(problem: Problem, reply: Reply) -> RaincheckError:
    make_error = _ERRORS.get(problem.name)
    job = _JOB_PATH.search(problem.instance or "")
    if make_error is None and job is not None:
        return _job_error(job[1], problem)
    error: RaincheckError = (make_error or _refused)(problem, reply)
    return error


def job_failed(job_id: str, problem: Problem | None) -> JobFailed:
    """The exception for a failed job."""
    reason = _describe(problem) if problem else "no error was recorded"
    return JobFailed(f"job {job_id} failed: {reason}", job_id=job_id, problem=problem)


def job_cancelled(job_id: str, problem: Problem | None) -> JobCancelled:
    """The exception for a cancelled job."""
    return JobCancelled(f"job {job_id} was cancelled", job_id=job_id, problem=problem)


def result_of(document: JobDocument, raw: bytes, returns: Any) -> Any:
    """The result of an ended job. Raises `JobFailed`, `JobCancelled` or `UnexpectedResult`."""
    if document.state is State.CANCELLED:
        raise job_cancelled(document.id, document.error)
    if document.state is State.FAILED:
        raise job_failed(document.id, document.error)
    return convert_result(msgspec.json.decode(raw, type=_ResultField).result, returns, document.id)


def log_warnings(document: JobDocument) -> None:
    """Log the warnings of a job that a caller waits for."""
    for warning in document.warnings:
        logger.warning("job %s waits: %s", document.id, warning)


def convert_result(result: Raw, returns: Any, job_id: str) -> Any:
    """Decode a result as the type ``returns``, or by the reader of a function.

    Raises `UnexpectedResult` if it has another type.
    """
    reader = returns if isinstance(returns, ResultReader) else ResultReader(returns)
    try:
        return reader.read(result)
    except UnexpectedResult as error:
        raise UnexpectedResult(f"job {job_id}: {error}") from None


def _reason_phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in {*HTTPStatus} else ""


def _parse_problem(reply: Reply) -> Problem | None:
    if not reply.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _job_error(job_id: str, problem: Problem) -> JobFailed:
    return job_cancelled(job_id, problem) if problem.name == "cancelled" else job_failed(job_id, problem)


def _describe(problem: Problem) -> str:
    return f"{problem.title}: {problem.detail}" if problem.detail else problem.title


def _refused(problem: Problem, reply: Reply) -> RaincheckError:
    return Refused(_describe(problem))


def _invalid_input(problem: Problem, reply: Reply) -> RaincheckError:
    faults = [Fault(fault.detail, fault.pointer) for fault in problem.errors]
    return errors.InvalidInput(*(faults or [Fault(_describe(problem))]))


def _not_allowed(problem: Problem, reply: Reply) -> RaincheckError:
    scope = re.search(r'\bscope="([^"]*)"', reply.headers.get("www-authenticate", ""))
    return errors.NotAllowed(_describe(problem), scope=scope[1] if scope else "")


def _too_many_attempts(problem: Problem, reply: Reply) -> RaincheckError:
    return errors.TooManyAttempts(_describe(problem), retry_after=reply.retry_after or 0.0)


def _from_detail(kind: type[RaincheckError]) -> Callable[[Problem, Reply], RaincheckError]:
    """A function that makes an exception of this class from the detail of a problem."""
    return lambda problem, reply: kind(problem.detail or problem.title)


_ERRORS: dict[str, Callable[[Problem, Reply], Any]] = {
    "validation": _invalid_input,
    "not-found": _from_detail(errors.NotFound),
    "gone": _from_detail(errors.Gone),
    "wrong-state": _from_detail(errors.WrongState),
    "idempotency-mismatch": _from_detail(errors.IdempotencyMismatch),
    "not-signed-in": _from_detail(errors.NotSignedIn),
    "not-allowed": _not_allowed,
    "too-many-attempts": _too_many_attempts,
    "too-large": _from_detail(errors.TooLarge),
    "store-unavailable": _from_detail(errors.StoreUnavailable),
    "not-ready": _from_detail(errors.StoreUnavailable),
    "store-full": _from_detail(errors.StoreFull),
}
"""Makes the exception for each problem type; other types become `Refused`."""
