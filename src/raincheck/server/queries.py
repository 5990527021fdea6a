"""The query of a listing, and the key that makes a submission safe to repeat."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from raincheck.core.errors import Fault, InvalidInput
from raincheck.core.model import State
from raincheck.functions.signature import escape, fault_of
from raincheck.server.http import Request
from raincheck.server.refusals import MALFORMED, Refused
from raincheck.store.base import Filter

KEY_LENGTH = 255
QUOTED = r'"(?:[ !#-\[\]-~]|\\["\\])+"'
BARE = r"[!#-+\-.-:<-\[\]-~]+"


class Listing(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs to list: those that match all that is given, ``limit`` of them from ``cursor`` on."""

    state: State | UnsetType = UNSET
    name: Annotated[str, Meta(min_length=1)] = ""
    function: Annotated[str, Meta(min_length=1)] = ""
    group: Annotated[str, Meta(min_length=1)] = ""
    limit: Annotated[int, Meta(ge=1)] = 50
    cursor: Annotated[str, Meta(min_length=1, max_length=200)] = ""

    @property
    def filter(self) -> Filter:
        """What the store is asked for."""
        state = None if self.state is UNSET else self.state
        return Filter(
            state=state,
            name=self.name or None,
            function=self.function or None,
            group=self.group or None,
        )

    def after(self, cursor: str) -> str:
        """The query of the next page."""
        given = {name: value for name, value in msgspec.to_builtins(self).items() if value}
        return urlencode(given | {"cursor": cursor})


def listing(request: Request) -> Listing:
    """The query of ``GET /v1/job``. Raises `InvalidInput`; pointers are ``/`` and the parameter's name."""
    try:
        query = request.scope.get("query_string", b"").decode("ascii")
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=20
        )
    except ValueError:
        raise InvalidInput(Fault("the query cannot be read: send name=value pairs in UTF-8")) from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise InvalidInput(Fault("is given twice", f"/{escape(twice)}"))
    for name in parameters.keys() - set(Listing.__struct_fields__):
        known = ", ".join(Listing.__struct_fields__)
        raise InvalidInput(Fault(f"is unknown; a listing takes {known}", f"/{escape(name[:100])}"))
    try:
        asked = msgspec.convert(parameters, Listing, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_of(error, "")) from None
    most = request.engine.limits.page
    if asked.limit > most:
        raise InvalidInput(Fault(f"a page has at most {most} jobs", "/limit"))
    return asked


def idempotency_key(request: Request) -> str | None:
    """The value of ``Idempotency-Key``, sent as a quoted string or bare. Raises `Refused`."""
    header = request.headers.get(b"idempotency-key")
    if header is None:
        return None
    text = header.decode("latin-1")
    key = re.sub(r"\\(.)", r"\1", text[1:-1]) if re.fullmatch(QUOTED, text) else text
    if len(key) > KEY_LENGTH or (key is text and not re.fullmatch(BARE, text)):
        raise Refused(
            MALFORMED,
            f'an Idempotency-Key is a string of 1 to {KEY_LENGTH} visible ASCII characters, such as "8e0397"',
        )
    return key
