"""The OpenAPI 3.1 document: the fixed paths, and typed operations for every known function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from raincheck.core.limits import Limits
from raincheck.core.model import FunctionInfo
from raincheck.engine.documents import encode
from raincheck.server.access import PUBLIC, Routes
from raincheck.server.http import JSON, Request, Response
from raincheck.server.openapi.components import SCHEMAS, Schema, components, ref, response
from raincheck.server.openapi.paths import ACCEPTED, CALLING, PATHS, TAGS, json_content, operation
from raincheck.version import VERSION

ABOUT = (
    "Call a function and get its result, or a job to follow until it ends. Errors are problem documents (RFC "
    "9457)."
)
_IMPOSSIBLE: Schema = {"not": {}}
"""The schema of arguments that a function cannot take, by position or by name."""

SECURITY: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of POST /v1/token with the scope of the operation, or `admin`.",
    }
}


async def describe(request: Request) -> Response:
    """``GET /openapi.json``"""
    root, infos = request.url("").decode(), request.engine.workers.infos()
    return Response(200, request.services.describe(root, infos), (JSON,))


class OpenAPI:
    """The document of an app, built again only when its functions have changed."""

    def __init__(self, title: str, limits: Limits, secured: Routes | None = None) -> None:
        self._title = title
        self._limits = limits
        self._secured = secured
        self._key: tuple[str, dict[str, FunctionInfo]] | None = None
        self._document = b""

    def document(self, root: str, infos: dict[str, FunctionInfo]) -> bytes:
        """The document as JSON, for an API that is mounted at the path ``root`` and has these functions."""
        if self._key != (root, infos):
            self._document = encode(document(self._title, self._limits, root, infos, self._secured))
            self._key = (root, infos)
        return self._document


def document(
    title: str,
    limits: Limits,
    root: str,
    infos: dict[str, FunctionInfo],
    secured: Routes | None = None,
) -> Schema:
    """The document of an app with these functions; ``secured`` are the routes if callers must sign in."""
    shared = components(limits)
    paths = dict(PATHS)
    slugs: set[str] = set()
    for name in sorted(infos):
        slug = _slug(name, slugs)
        slugs.add(slug)
        paths[f"/v1/function/{name}"] = _function(infos[name], slug, shared["schemas"])
    if secured is not None:
        paths = dict(_with_security(paths, secured))
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
    """The operations of one function: get it, call it."""
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
            f"Get {info.name}",
            {200: response("The function.", ref("schemas", "FunctionSummary"))},
            404,
        ),
        "post": operation(
            f"call_{slug}",
            "functions",
            summary,
            {200: response("The result.", called, "Preference-Applied"), 202: ACCEPTED},
            *(400, 404, 409, 413, 415, 422, 500),
            parameters=CALLING,
            requestBody=json_content({"oneOf": possible}, required=needed),
            **about,
        ),
    }


def _with_security(paths: dict[str, Schema], routes: Routes) -> Iterator[tuple[str, Schema]]:
    """The paths, each operation with the scope that it needs and the problems of sign-in."""
    problems = {"401": ref("responses", "Problem401"), "403": ref("responses", "Problem403")}
    by_path = {path.replace(":path}", "}"): methods for path, methods in routes.items()}
    for path, item in paths.items():
        methods = by_path.get(path) or by_path["/v1/function/{name}"]
        operations: dict[str, Any] = {}
        for method, described in item.items():
            need = methods[method.upper()][0]
            security = {} if need == PUBLIC else {"security": [{"bearer": [str(need)]}]}
            responses = described["responses"] | ({} if need == PUBLIC else problems)
            operations[method] = described | security | {"responses": dict(sorted(responses.items()))}
        yield path, operations


def _slug(name: str, taken: set[str]) -> str:
    """A function's name as an identifier that is not ``taken``."""
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
    """A name that a component may have: the name of a generic class contains brackets."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
