"""Problem documents (RFC 9457): the table from exceptions to problems, and the errors of HTTP itself."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from raincheck.core import errors
from raincheck.core.errors import InvalidInput, RaincheckError
from raincheck.core.model import PROBLEM_TYPES, ErrorDetail, FailureType, Problem
from raincheck.engine.groups.definitions import InvalidGroup

Header = tuple[bytes, bytes]

PROBLEM_JSON = (b"content-type", b"application/problem+json")


class Kind(NamedTuple):
    """A kind of problem: the name of its type, its title and its status."""

    name: str
    title: str
    status: int


MALFORMED = Kind("malformed", "Malformed request", 400)
CROSS_SITE = Kind("cross-site", "Cross-site request refused", 403)
NO_PATH = Kind("not-found", "Path not found", 404)
CANCELLED = Kind("cancelled", "Job cancelled", 409)
NO_METHOD = Kind("method-not-allowed", "Method not allowed", 405)
TOO_SLOW = Kind("too-slow", "Request timed out", 408)
MEDIA_TYPE = Kind("unsupported-media-type", "Unsupported media type", 415)
OTHER_HOST = Kind("other-host", "Wrong host", 421)
HEAD_TOO_LARGE = Kind("head-too-large", "Request headers too large", 431)
NOT_READY = Kind("not-ready", "Server not ready", 503)

PROBLEMS: dict[type[Exception], Kind] = {
    errors.InvalidInput: Kind("validation", "Invalid input", 422),
    InvalidGroup: Kind("invalid-group", "Invalid group", 422),
    errors.InvalidArguments: Kind("validation", "Invalid arguments", 422),
    errors.NotSignedIn: Kind("not-signed-in", "Not signed in", 401),
    errors.NotAllowed: Kind("not-allowed", "Not allowed", 403),
    errors.TooManyAttempts: Kind("too-many-attempts", "Too many sign-in attempts", 429),
    errors.NotFound: Kind("not-found", "Not found", 404),
    errors.Gone: Kind("gone", "Job removed", 410),
    errors.WrongState: Kind("wrong-state", "Wrong job state", 409),
    errors.IdempotencyMismatch: Kind("idempotency-mismatch", "Idempotency key already used", 422),
    errors.TooLarge: Kind("too-large", "Request too large", 413),
    errors.StoreError: Kind("store-unavailable", "Store unavailable", 503),
    errors.StoreFull: Kind("store-full", "Store full", 507),
    Exception: Kind("internal", "Internal server error", 500),
}

KINDS = (
    *(
        MALFORMED,
        CROSS_SITE,
        CANCELLED,
        NO_METHOD,
        TOO_SLOW,
        MEDIA_TYPE,
        OTHER_HOST,
        HEAD_TOO_LARGE,
        NOT_READY,
    ),
    *PROBLEMS.values(),
)
TYPES = sorted({PROBLEM_TYPES + name for name in (*(kind.name for kind in KINDS), *FailureType)})
"""The type of every problem, in responses and in the ``error`` of a job. The reference explains each."""

DETAILS = {
    "validation": "nothing was changed: fix the fields listed in `errors` and retry",
    "invalid-group": "nothing was changed: to trigger this group, fix the fields of its declaration that are "
    "listed in `errors`",
    "store-unavailable": "the store did not confirm the operation: retry later with the same Idempotency-Key",
    "store-full": "the store has no space left: free some, then retry",
    "internal": "this is a bug of the server: report it to the operator, whose log has the details",
}
"""The details of problems whose exception has faults, or may name files of the server."""


class RequestError(RaincheckError):
    """A request that is refused before its content is read: the kind of problem, what to do, headers."""

    def __init__(self, kind: Kind, detail: str, *headers: Header) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers


def kind_of(error: Exception) -> Kind:
    """The kind of problem of an exception."""
    if isinstance(error, RequestError):
        return error.kind
    return next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)


def problem_of(error: Exception) -> Problem:
    """The problem document of an exception. It contains no details of the server."""
    kind = kind_of(error)
    faults = error.faults if isinstance(error, InvalidInput | errors.NotAllowed) else ()
    return new_problem(kind, DETAILS.get(kind.name, str(error)), *(ErrorDetail(*fault) for fault in faults))


def new_problem(kind: Kind, detail: str, *faults: ErrorDetail) -> Problem:
    """A problem document of a kind."""
    return Problem(type=kind.name, title=kind.title, status=kind.status, detail=detail, errors=faults)


def problem_headers(error: Exception, has_token: bool) -> tuple[Header, ...]:
    """The headers of a problem: how to sign in (RFC 6750 §3), when to retry, which methods are allowed."""
    if isinstance(error, RequestError):
        return error.headers
    if isinstance(error, errors.TooManyAttempts):
        return ((b"retry-after", b"%d" % ceil(error.retry_after)),)
    if isinstance(error, errors.NotAllowed) and error.scope is not None:
        reason = f', error="insufficient_scope", scope="{error.scope}"'
    elif isinstance(error, errors.NotSignedIn):
        reason = ', error="invalid_token"' if has_token else ""
    else:
        return ()
    return ((b"www-authenticate", f'Bearer realm="raincheck"{reason}'.encode()),)
