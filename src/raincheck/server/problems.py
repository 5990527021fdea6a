"""Errors as problem documents (RFC 9457): one table from exception to answer."""

from __future__ import annotations

import logging
from math import ceil

from msgspec import to_builtins

from raincheck.core import errors
from raincheck.core.errors import InvalidInput
from raincheck.core.model import ErrorDetail, Problem
from raincheck.engine.documents import encode
from raincheck.engine.groups.declared import InvalidGroup
from raincheck.server.http import Answer, Header, Request
from raincheck.server.refusals import Kind, Refused

logger = logging.getLogger("raincheck.server")

PROBLEM_JSON = (b"content-type", b"application/problem+json")
LATER = (b"retry-after", b"2")

PROBLEMS: dict[type[Exception], Kind] = {
    errors.InvalidInput: Kind("validation", "The input is not valid", 422),
    InvalidGroup: Kind("invalid-group", "The group is not valid", 422),
    errors.InvalidArguments: Kind("validation", "The arguments do not fit the function", 422),
    errors.NotSignedIn: Kind("not-signed-in", "The request is not signed in", 401),
    errors.NotAllowed: Kind("not-allowed", "The token does not allow it", 403),
    errors.TooManyAttempts: Kind("too-many-attempts", "There were too many attempts to sign in", 429),
    errors.NotFound: Kind("not-found", "There is no such thing", 404),
    errors.Gone: Kind("gone", "The job is gone", 410),
    errors.WrongState: Kind("wrong-state", "The job's state forbids it", 409),
    errors.IdempotencyMismatch: Kind("idempotency-mismatch", "The key was used for another request", 422),
    errors.TooLarge: Kind("too-large", "The request is too large", 413),
    errors.StoreError: Kind("store-unavailable", "The store is unavailable", 503),
    errors.StoreFull: Kind("store-full", "The store is full", 507),
    Exception: Kind("internal", "The server failed", 500),
}

UNEXPECTED = "the fault is the server's, and its log says what it was; the same request may succeed later"
STORE = "nothing is known to be lost; send the same request again in a while"
GROUP = "it was declared as errors say, and cannot be triggered until that is mended; nothing was changed"
FAULTS = "mend what errors name and send the request again; nothing was changed"


def problem_answer(error: Exception, request: Request) -> Answer:
    """The answer to a request that ended with ``error``; one that nobody expected is logged."""
    if isinstance(error, Refused):
        return answer_of(problem_of(error.kind, str(error)), *error.headers)
    kind = next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)
    if isinstance(error, InvalidInput):
        faults = [ErrorDetail(fault.detail, fault.pointer) for fault in error.faults]
        words = GROUP if isinstance(error, InvalidGroup) else FAULTS
        return answer_of(problem_of(kind, words, *faults))
    if isinstance(error, errors.StoreError):  # its words may name files
        logger.warning("%s %s: %s", request.scope["method"], request.path, error)
        return answer_of(problem_of(kind, STORE))
    if kind.status == 500:
        logger.error("%s %s failed", request.scope["method"], request.path, exc_info=error)
        return answer_of(problem_of(kind, UNEXPECTED))
    return answer_of(problem_of(kind, str(error)), *_headers(error, request))


def _headers(error: Exception, request: Request) -> tuple[Header, ...]:
    """What an error says in headers too: how to sign in (RFC 6750 §3), when to try again."""
    if isinstance(error, errors.TooManyAttempts):
        return ((b"retry-after", b"%d" % ceil(error.retry_after)),)
    if isinstance(error, errors.NotAllowed):
        why = f', error="insufficient_scope", scope="{error.scope}"'
    elif isinstance(error, errors.NotSignedIn):
        why = ', error="invalid_token"' if b"authorization" in request.headers else ""
    else:
        return ()
    return ((b"www-authenticate", f'Bearer realm="raincheck"{why}'.encode()),)


def problem_of(kind: Kind, detail: str, *faults: ErrorDetail) -> Problem:
    """A problem of a kind."""
    return Problem(type=kind.type, title=kind.title, status=kind.status, detail=detail, errors=faults)


def answer_of(problem: Problem, *headers: Header) -> Answer:
    """The answer that a problem is."""
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        **to_builtins(problem),
    }
    if problem.errors:
        document["errors"] = [{"detail": fault.detail, "pointer": fault.pointer} for fault in problem.errors]
    later = (LATER,) if problem.status == 503 else ()
    return Answer(problem.status, encode(document), (PROBLEM_JSON, *headers, *later))
