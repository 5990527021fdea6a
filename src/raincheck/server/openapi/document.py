"""The OpenAPI 3.1 document: the fixed paths, and an operation of its own for every function known."""

from __future__ import annotations

import re
from typing import Any

from raincheck.core.limits import Limits
from raincheck.core.model import FunctionInfo
from raincheck.engine.documents import encode
from raincheck.server.access import SECURITY, Routes, with_security
from raincheck.server.http import JSON, Answer, Request
from raincheck.server.openapi.paths import (
    ACCEPTED,
    CALLING,
    PATHS,
    SCHEMAS,
    TAGS,
    Schema,
    answer,
    components,
    json_content,
    operation,
    ref,
)
from raincheck.server.openapi.schedule_paths import SCHEDULES
from raincheck.version import VERSION

ABOUT = (
    "Call a function and get its result, or a job that will have it. Errors are problem documents (RFC 9457)."
)
_IMPOSSIBLE: Schema = {"not": {}}


async def describe(request: Request) -> Answer:
    """``GET /openapi.json``"""
    return Answer(
        200, request.site.describe(request.url("").decode(), request.engine.workers.infos()), (JSON,)
    )


class OpenAPI:
    """The document of an app, made anew only when its functions have changed."""

    def __init__(self, title: str, limits: Limits, guarded: Routes | None = None) -> None:
        self._title = title
        self._limits = limits
        self._guarded = guarded
        self._of: tuple[str, dict[str, FunctionInfo]] | None = None
        self._document = b""

    def document(self, root: str, infos: dict[str, FunctionInfo]) -> bytes:
        """The document as JSON, for an API mounted at the path ``root`` with these functions."""
        if self._of != (root, infos):
            self._document = encode(document(self._title, self._limits, root, infos, self._guarded))
            self._of = (root, infos)
        return self._document


def document(
    title: str,
    limits: Limits,
    root: str,
    infos: dict[str, FunctionInfo],
    guarded: Routes | None = None,
) -> Schema:
    """The document of an app with these functions; ``guarded``, if callers have to sign in."""
    shared = components(limits)
    paths = PATHS | SCHEDULES
    slugs: set[str] = set()
    for name in sorted(infos):
        slug = _slug(name, slugs)
        slugs.add(slug)
        paths[f"/v1/function/{name}"] = _function(infos[name], slug, shared["schemas"])
    if guarded is not None:
        paths = dict(with_security(paths, guarded))
        shared["securitySchemes"] = SECURITY
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION, "description": ABOUT},
        **({"servers": [{"url": root}]} if root else {}),
        "tags": TAGS,
        "paths": paths,
        "components": shared,
    }


def _function(info: FunctionInfo, slug: str, schemas: dict[str, Schema]) -> Schema:
    """What can be done to one function: look at it, call it."""
    forms = [_hoisted(form, slug, schemas) for form in (info.parameters, info.positional)]
    possible = [form for form in forms if form != _IMPOSSIBLE]
    called: Schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "state": {"const": "done"},
            "result": _hoisted(info.returns, slug, schemas),
        },
        "required": ["id", "state", "result"],
    }
    needed = bool(info.parameters.get("required") or info.positional.get("minItems")) or len(possible) < 2
    about = {"description": info.doc} if info.doc else {}
    summary = info.doc.partition("\n")[0] or f"Call {info.name}"
    return {
        "get": operation(
            f"get_{slug}",
            "functions",
            f"Look at {info.name}",
            {200: answer("What is known of it.", ref("schemas", "FunctionSummary"))},
            404,
        ),
        "post": operation(
            f"call_{slug}",
            "functions",
            summary,
            {200: answer("Its result.", called, "Preference-Applied"), 202: ACCEPTED},
            *(400, 404, 409, 413, 415, 422, 500),
            parameters=CALLING,
            requestBody=json_content({"oneOf": possible}, required=needed),
            **about,
        ),
    }


def _slug(name: str, taken: set[str]) -> str:
    """A function's name as one word, unlike any other."""
    word = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "function"
    number = 1
    while (slug := word if number == 1 else f"{word}_{number}") in taken:
        number += 1
    return slug


def _hoisted(schema: Schema, slug: str, schemas: dict[str, Schema]) -> Any:
    """The schema with its definitions moved to the components, under names that begin with ``slug``."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(each) for each in value]
        if not isinstance(value, dict):
            return value
        target = value.get("$ref")
        if isinstance(target, str) and target.startswith("#/$defs/"):
            value = value | {"$ref": f"{SCHEMAS}{slug}.{_word(target[8:])}"}
        return {key: moved(each) for key, each in value.items() if key != "$defs"}

    for name, definition in schema.get("$defs", {}).items():
        schemas[f"{slug}.{_word(name)}"] = moved(definition)
    return moved(schema)


def _word(name: str) -> str:
    """A name that a component may have: that of a generic class holds brackets."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
