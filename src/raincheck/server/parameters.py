"""The parts of a request that endpoints read: body, query, ``Prefer`` and ``Idempotency-Key``.

User values in a body are not decoded: they stay the JSON that was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import Meta, Struct

from raincheck.core.codec import MAX_DEPTH, check_json
from raincheck.core.errors import Fault, InvalidInput, NotJSON
from raincheck.engine.documents import JobDocument
from raincheck.engine.filters import JobFilter, Order
from raincheck.engine.listings import View
from raincheck.engine.requests import decoded
from raincheck.functions.signature import escape, fault_of
from raincheck.server.http import Request
from raincheck.server.problems import MALFORMED, MEDIA_TYPE, Header, RequestError

T = TypeVar("T")

KEY_LENGTH = 255
QUOTED = r'"(?:[ !#-\[\]-~]|\\["\\])+"'
BARE = r"[!#-+\-.-:<-\[\]-~]+"

_JSON_TYPE = re.compile(
    rb"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE
)
_SEND_JSON = "send JSON in UTF-8 with 'Content-Type: application/json' (curl: --json instead of -d)"
_PREFERENCE = re.compile(
    r"(?:^|,)\s*([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,;\"]*))?", re.ASCII
)


async def json_body(request: Request, limit: int | None = None, depth: int = MAX_DEPTH) -> bytes:
    """The body, which is valid JSON; empty if there is none. Raises `RequestError` or `TooLarge`.

    It has at most ``limit`` bytes (default: the limit of the server) and ``depth`` levels.
    """
    headers = request.headers
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestError(MEDIA_TYPE, "compressed bodies are not supported: send the body uncompressed")
    media_type = headers.get(b"content-type")
    if media_type is not None and not _JSON_TYPE.fullmatch(media_type):
        given = media_type[:100].decode("latin-1")
        raise RequestError(MEDIA_TYPE, f"the body was sent as {given!r}: {_SEND_JSON}")
    body = await request.body(limit)
    if not body:
        return body
    if media_type is None:
        raise RequestError(MEDIA_TYPE, f"the header Content-Type is missing: {_SEND_JSON}")
    try:
        check_json(body, depth)
    except NotJSON as error:
        raise RequestError(MALFORMED, f"{error}: send one JSON document in UTF-8") from None
    return body


async def decoded_body(
    request: Request,
    decode: Callable[[bytes], T],
    example: str,
    limit: int | None = None,
    depth: int = MAX_DEPTH,
) -> T:
    """The body as a typed request. Raises `InvalidInput`; with ``example``, `RequestError` if it is empty."""
    body = await json_body(request, limit, depth)
    if not body:
        raise RequestError(MALFORMED, f"the body is empty: send at least {example}")
    return decoded(decode, body)


LISTS = ("state", "fields")
"""Parameters of a listing with several values."""


class Wait(NamedTuple):
    """How long to wait for the end of a job, and which preferences the request has."""

    seconds: float
    was_requested: bool = False
    respond_async: bool = False

    def applied(self, status: int) -> tuple[Header, ...]:
        """``Preference-Applied``: the preferences that a response with this status honours."""
        applied = ["respond-async"] * (self.respond_async and status == 202)
        applied += [f"wait={self.seconds:g}"] * self.was_requested
        return ((b"preference-applied", ", ".join(applied).encode()),) if applied else ()


NO_WAIT = Wait(0.0)


def parse_prefer(request: Request, default: float = 0.0) -> Wait:
    """How long a request waits (RFC 7240): ``wait=N``, not at all with ``respond-async``, or the default.

    Never longer than the server's limit. Unknown and malformed preferences are ignored.
    """
    limit = request.engine.limits.wait
    header = request.headers.get(b"prefer")
    if header is None:
        return Wait(min(default, limit))
    preferences: dict[str, str] = {}
    for name, value in _PREFERENCE.findall(header.decode("latin-1")):
        preferences.setdefault(name.lower(), value.strip('"'))
    wait = preferences.get("wait", "")
    respond_async = "respond-async" in preferences
    if wait.isascii() and wait.isdigit():
        return Wait(min(float(wait[:9]), limit), True, respond_async)
    return Wait(0.0 if respond_async else min(default, limit), False, respond_async)


def idempotency_key(request: Request) -> str | None:
    """The value of ``Idempotency-Key``, sent as a quoted string or bare. Raises `RequestError`."""
    header = request.headers.get(b"idempotency-key")
    if header is None:
        return None
    text = header.decode("latin-1")
    key = re.sub(r"\\(.)", r"\1", text[1:-1]) if re.fullmatch(QUOTED, text) else text
    if len(key) > KEY_LENGTH or (key is text and not re.fullmatch(BARE, text)):
        raise RequestError(
            MALFORMED,
            f"Idempotency-Key must be a string of 1 to {KEY_LENGTH} visible ASCII characters, "
            'for example "8e0397"',
        )
    return key


Member = Literal[JobDocument.__struct_fields__]  # type: ignore[valid-type]
"""The name of a member of a job's document."""


Limit = Annotated[int, Meta(ge=1)]
Cursor = Annotated[str, Meta(min_length=1, max_length=200)]


class Paging(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query of a list: ``limit`` entries, from ``cursor`` on."""

    limit: Limit = 50
    cursor: Cursor = ""


class Listing(JobFilter, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query of a list of jobs: ``limit`` jobs that match the filter, from ``cursor`` on.

    ``fields`` are the members to show; with ``full`` the documents are whole.
    """

    sort: Order = "newest"
    limit: Limit = 50
    cursor: Cursor = ""
    fields: tuple[Member, ...] = ()
    full: bool = False

    @property
    def view(self) -> View:
        """What the listing shows of each job."""
        return View(self.full, frozenset(self.fields))


Q = TypeVar("Q", bound=Paging | Listing)


def next_query(query: Paging | Listing, cursor: str) -> str:
    """The query of the next page."""
    return urlencode(msgspec.to_builtins(query) | {"cursor": cursor}, doseq=True)


def parse_query(request: Request, kind: type[Q]) -> Q:
    """The query of a list. Raises `InvalidInput`; a pointer is ``/`` and the parameter's name."""
    try:
        query = request.scope.get("query_string", b"").decode("ascii")
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=80
        )
    except ValueError:
        raise InvalidInput(Fault("the query is malformed: send name=value pairs in UTF-8")) from None
    parameters: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name in LISTS:  # separated by commas, or repeated
            parameters[name] = [*parameters.get(name, ()), *value.split(",")]
        elif name in parameters:
            raise InvalidInput(Fault("duplicate parameter", f"/{escape(name)}"))
        else:
            parameters[name] = value
    for name in parameters.keys() - set(kind.__struct_fields__):
        known = ", ".join(kind.__struct_fields__)
        raise InvalidInput(Fault(f"unknown parameter: use {known}", f"/{escape(name[:100])}"))
    try:
        listing = msgspec.convert(parameters, kind, strict=False)
    except msgspec.ValidationError as error:
        fault = fault_of(error, "")
        parameter = "/".join(fault.pointer.split("/")[:2])  # without the position in a list of values
        raise InvalidInput(fault._replace(pointer=parameter)) from None
    limit = request.engine.limits.page
    if listing.limit > limit:
        raise InvalidInput(Fault(f"a page can have at most {limit} entries", "/limit"))
    return listing
