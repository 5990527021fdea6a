"""The documentation page. It reads /openapi.json and loads nothing from other sites (docs/decisions/0007)."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources

from raincheck.server.http import Request, Response
from raincheck.server.problems import NO_PATH, RequestError

FILES = {
    "index.html": b"text/html; charset=utf-8",
    "docs.css": b"text/css; charset=utf-8",
    "docs.js": b"text/javascript; charset=utf-8",
}
POLICY = b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
)


async def page(request: Request) -> Response:
    """``GET /docs``"""
    return await _file_response("index.html")


async def file(request: Request) -> Response:
    """``GET /docs/{file}``"""
    if request.target not in FILES:
        raise RequestError(NO_PATH, "no such file: the documentation is at /docs")
    return await _file_response(request.target)


async def redirect(request: Request) -> Response:
    """``GET /``"""
    return Response(307, headers=((b"location", request.url("/docs")),))


async def _file_response(name: str) -> Response:
    content = await asyncio.to_thread(_read, name)
    return Response(200, content, ((b"content-type", FILES[name]),), HEADERS)


@cache
def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
