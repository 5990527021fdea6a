"""Access: the scope that each route needs, sign-in, and requests that another site's page sends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from raincheck.auth import Scope
from raincheck.core.errors import NotFound
from raincheck.server.cors import AllowedOrigins
from raincheck.server.http import Endpoint, Request, Response, json_response
from raincheck.server.parameters import decoded_body
from raincheck.server.problems import CROSS_SITE, OTHER_HOST, RequestError

PUBLIC: Final = "public"
"""Needs no token; the response is the same for every caller."""

READ, WRITE, WORKER = Scope.READ, Scope.WRITE, Scope.WORKER

Need = Scope | Literal["public"]
Route = tuple[Need, Endpoint]
"""The scope that a request needs, and the endpoint that responds to it."""

Routes = Mapping[str, Mapping[str, Route]]
"""By path and method."""

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


def check_routes(routes: Mapping[str, Mapping[str, object]]) -> None:
    """Raise `TypeError` if a route declares no scope: it must not be public by mistake."""
    for path, methods in routes.items():
        for method, route in methods.items():
            if not (isinstance(route, tuple) and (route[0] in list(Scope) or route[0] == PUBLIC)):
                raise TypeError(f"{method} {path} declares neither PUBLIC nor a scope")


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A user who signs in. ``scope`` requests only some of the user's scopes, separated by spaces."""

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    scope: Annotated[str, Meta(max_length=1000)] | None = None

    def __repr__(self) -> str:
        return f"TokenRequest({self.username!r})"


_decode_token = msgspec.json.Decoder(TokenRequest).decode


async def sign_in(request: Request) -> Response:
    """``POST /v1/token``"""
    auth = request.services.auth
    if auth is None:
        raise NotFound("this server has no sign-in: send requests without a token")
    user = await decoded_body(request, _decode_token, '{"username": …, "password": …}')
    address = (request.scope.get("client") or ("",))[0]
    token = await auth.sign_in(user.username, user.password, user.scope, address=address)
    return json_response(200, token)


def check_origin(request: Request, allowed: AllowedOrigins, local_only: bool) -> None:
    """Raise `RequestError` if the request changes something and comes from a page of another site.

    A page of another site can send only a request that needs no preflight, and the browser adds cookies and
    the like to it. So a request with a bearer token is from a program, or from a page that is allowed to send
    it. Another application that this server is mounted in decides itself.

    A ``local_only`` server has no sign-in. It also refuses other host names: such a name can be made to point
    to this server, and then a browser takes its pages for pages of this site (DNS rebinding).
    """
    if local_only and not _is_local(request.headers.get(b"host", b"localhost")):
        raise RequestError(
            OTHER_HOST,
            "this server accepts requests from its own machine only: use localhost, or serve with --insecure",
        )
    if request.scope["method"] in SAFE_METHODS or "app" in request.scope:
        return
    headers = request.headers
    if headers.get(b"authorization", b"")[:7].lower() == b"bearer " or headers.get(b"origin") in allowed:
        return
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        is_foreign = site not in (b"same-origin", b"none")
    else:
        origin = headers.get(b"origin")
        is_foreign = origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
    if is_foreign:
        raise RequestError(
            CROSS_SITE,
            "a page of another site sent this request: allow its origin with RAINCHECK_ALLOWED_ORIGINS or "
            "App(allowed_origins=...), or call the API from a page of this server or from a program",
        )


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    """Whether a ``Host`` is a name of this machine, or an address, which no one can redirect."""
    name = host.decode("latin-1").rpartition("]")[0].lstrip("[") or host.decode("latin-1").partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
