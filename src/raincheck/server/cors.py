"""Pages of other origins that may call the API: the server's part of CORS in the Fetch standard (§3.3)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from raincheck.core.errors import ConfigError
from raincheck.server.problems import Header

EXPOSED = b"Allow, Content-Location, Link, Location, Preference-Applied, Retry-After, WWW-Authenticate"
"""The response headers that a page may read, besides those that every page may."""

REQUEST_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Prefer"
METHODS = b"DELETE, GET, HEAD, POST, PUT"
"""What a page may send. A preflight request gets them for every path, so that a page can read the error of a
wrong path or method."""

PREFLIGHT_SECONDS = 600
"""How long a browser may remember the response to a preflight request."""

ANY = "*"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_VARY = (b"vary", b"Origin")


class AllowedOrigins:
    """The origins whose pages may call the API. Without any, only pages of the server's own origin may.

    An origin is ``scheme://host`` or ``scheme://host:port``. ``*`` alone allows every origin, but no
    credentials: a page must send a token. Raises `ConfigError` for anything else.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        if isinstance(origins, str):
            raise ConfigError(f"allowed origins are a list: write [{origins!r}]")
        entries = [origin.strip() for origin in origins]
        self.any = ANY in entries
        if self.any and len(entries) > 1:
            raise ConfigError("allowed origins: use * alone, or list the origins without it")
        self._origins = frozenset(_parse(entry) for entry in entries if entry != ANY)

    def __bool__(self) -> bool:
        return self.any or bool(self._origins)

    def __contains__(self, origin: bytes | None) -> bool:
        return origin is not None and (self.any or origin in self._origins)

    def headers(self, request: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        """The headers that every response to a request with these headers needs."""
        if not self:
            return ()
        origin = request.get(b"origin")
        if origin is None or origin not in self:
            return () if self.any else (_VARY,)
        exposed = (b"access-control-expose-headers", EXPOSED)
        if self.any:
            return ((b"access-control-allow-origin", b"*"), exposed)
        allowed = (b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")
        return (*allowed, exposed, _VARY)

    def preflight(self, request: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        """The headers of the response to a preflight request; none for any other request or origin."""
        if request.get(b"origin") not in self or b"access-control-request-method" not in request:
            return ()
        return (
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        )


def from_environment() -> AllowedOrigins:
    """The origins in ``RAINCHECK_ALLOWED_ORIGINS``, separated by commas or spaces."""
    return AllowedOrigins(os.environ.get("RAINCHECK_ALLOWED_ORIGINS", "").replace(",", " ").split())


def _parse(text: str) -> bytes:
    """An origin as browsers send it: in lower case, and without the default port of its scheme."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ConfigError(
            f"{text!r} is not an origin. Write scheme://host or scheme://host:port, without a path and "
            "without wildcards; a host that is not ASCII as xn--..."
        )
    scheme, host, port = match.groups()
    has_port = port is not None and port != _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}:{port}".encode() if has_port else f"{scheme}://{host}".encode()
