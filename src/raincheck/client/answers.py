"""What comes back from a server: answers, and the errors that some of them are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from raincheck import errors
from raincheck.clock import from_datetime, now
from raincheck.errors import Fault, JobCancelled, JobFailed, RaincheckError, Refused, Unreachable
from raincheck.model import Problem, State

T = TypeVar("T")

_JOB = re.compile(r"/v1/job/([^/?#]+)$")
"""The id of a job, in the address of one that a call made and that did not end well."""


class Reply(NamedTuple):
    """An answer: its status, its headers (names in lower case), its body as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it is no error."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """When to ask again, in seconds from now, if it says so."""
        return _seconds(self.headers.get("retry-after", ""))

    def read(self, kind: type[T]) -> T:
        """The body as a document. Raises `Unreachable` if it is none."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"the server's answer is not understood: {error}") from None


class Called(Struct, frozen=True):
    """What the answers to a call have in common: a result that came in time, or the job."""

    id: str
    state: State
    result: Raw = Raw(b"null")


class Page(Struct, frozen=True):
    """A page of a listing, its jobs as they came."""

    jobs: list[Raw]
    cursor: str | None


def _seconds(value: str) -> float | None:
    """``Retry-After`` (RFC 9110 §10.2.3): seconds, or a date."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now(), 0.0)


def error_of(reply: Reply, url: str) -> RaincheckError:
    """The error that an answer is."""
    problem = _problem(reply)
    if problem is None:
        said = f"{reply.status} {_phrase(reply.status)}".rstrip()
        return Unreachable(f"{url} answered {said}, which is not the answer of a raincheck server")
    job = _JOB.search(problem.instance or "")
    error = _ended(job[1], problem) if job else _ERRORS.get(problem.type, _refused)(problem, reply)
    error.problem = problem
    return error


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in {*HTTPStatus} else ""


def _problem(reply: Reply) -> Problem | None:
    if not reply.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ended(job_id: str, problem: Problem) -> JobFailed:
    if problem.type == "cancelled":
        return JobCancelled(f"job {job_id} was cancelled", job_id=job_id, problem=problem)
    return failed(job_id, problem)


def failed(job_id: str, problem: Problem | None) -> JobFailed:
    """The error for a job that failed."""
    said = _words(problem) if problem else "no reason is known"
    return JobFailed(f"job {job_id} failed: {said}", job_id=job_id, problem=problem)


def _words(problem: Problem) -> str:
    return f"{problem.title}: {problem.detail}" if problem.detail else problem.title


def _refused(problem: Problem, reply: Reply) -> RaincheckError:
    return Refused(_words(problem))


def _invalid(problem: Problem, reply: Reply) -> RaincheckError:
    faults = [Fault(fault.detail, fault.pointer) for fault in problem.errors]
    return errors.InvalidInput(*(faults or [Fault(_words(problem))]))


def _not_allowed(problem: Problem, reply: Reply) -> RaincheckError:
    scope = re.search(r'\bscope="([^"]*)"', reply.headers.get("www-authenticate", ""))
    return errors.NotAllowed(_words(problem), scope=scope[1] if scope else "")


def _too_many(problem: Problem, reply: Reply) -> RaincheckError:
    return errors.TooManyAttempts(_words(problem), retry_after=reply.retry_after or 0.0)


def _plain(kind: type[RaincheckError]) -> Callable[[Problem, Reply], RaincheckError]:
    return lambda problem, reply: kind(problem.detail or problem.title)


_ERRORS: dict[str, Callable[[Problem, Reply], Any]] = {
    "validation": _invalid,
    "not-found": _plain(errors.NotFound),
    "gone": _plain(errors.Gone),
    "wrong-state": _plain(errors.WrongState),
    "idempotency-mismatch": _plain(errors.IdempotencyMismatch),
    "not-signed-in": _plain(errors.NotSignedIn),
    "not-allowed": _not_allowed,
    "too-many-attempts": _too_many,
    "too-large": _plain(errors.TooLarge),
    "store-unavailable": _plain(errors.StoreUnavailable),
    "not-ready": _plain(errors.StoreUnavailable),
    "store-full": _plain(errors.StoreFull),
}
"""The error for each type of problem; what is not here is `Refused`."""
