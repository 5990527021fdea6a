"""The documentation page: it reads /openapi.json, and needs nothing from elsewhere (docs/decisions/0007)."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources

from raincheck.server.http import Answer, Request
from raincheck.server.refusals import NO_PATH, Refused

FILES = {
    "index.html": b"text/html; charset=utf-8",
    "docs.css": b"text/css; charset=utf-8",
    "docs.js": b"text/javascript; charset=utf-8",
}
POLICY = b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
GUARDS = (
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
)


async def page(request: Request) -> Answer:
    """``GET /docs``"""
    return await _answer("index.html")


async def file(request: Request) -> Answer:
    """``GET /docs/{file}``"""
    if request.target not in FILES:
        raise Refused(NO_PATH, "the documentation is at /docs")
    return await _answer(request.target)


async def redirect(request: Request) -> Answer:
    """``GET /``"""
    return Answer(307, headers=((b"location", request.url("/docs")),))


async def _answer(name: str) -> Answer:
    content = await asyncio.to_thread(_read, name)
    return Answer(200, content, ((b"content-type", FILES[name]),), GUARDS)


@cache
def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
