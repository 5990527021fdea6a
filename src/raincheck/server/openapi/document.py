"""The OpenAPI 3.1 document: the fixed paths, and typed operations for every known function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raincheck.core.limits import Limits
from raincheck.core.model import FunctionInfo
from raincheck.engine.documents import encode
from raincheck.server.access import PUBLIC, Routes
from raincheck.server.http import JSON, Request, Response
from raincheck.server.openapi.components import components, response
from raincheck.server.openapi.paths import ACCEPTED, CALLING, PATHS, TAGS, json_content, operation
from raincheck.server.openapi.schemas import Names, Schema, component_name, portable, ref
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
    operations = Names(*(each["operationId"] for path in PATHS.values() for each in path.values()))
    names = Names(*shared["schemas"])
    for name in sorted(infos):
        slug = operations.add(f"call_{component_name(name) or 'function'}").removeprefix("call_")
        schemas = _hoisted(infos[name], slug, shared["schemas"], names)
        paths[f"/v1/function/{name}"] = _function(infos[name], slug, *schemas)
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


def _function(
    info: FunctionInfo, slug: str, parameters: Schema, positional: Schema, returns: Schema
) -> Schema:
    """The operations of one function: get it, call it."""
    possible = [form for form in (parameters, positional) if form != _IMPOSSIBLE]
    called: Schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "state": {"type": "string", "const": "done"},
            "result": returns,
        },
        "required": ["id", "state", "result"],
    }
    needed = bool(info.parameters.get("required") or info.positional.get("minItems")) or len(possible) < 2
    about = {"description": info.doc} if info.doc else {}
    summary = info.doc.partition("\n")[0] or f"Call {info.name}"
    return {
        "get": operation(
            f"get_function_{slug}",
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


def _hoisted(info: FunctionInfo, slug: str, schemas: dict[str, Schema], taken: Names) -> Iterator[Schema]:
    """The schemas of a function: parameters, positional, returns. Their definitions become components."""
    hoisted: dict[str, tuple[Schema, str]] = {}
    for form in (info.parameters, info.positional, info.returns):
        definitions = form.get("$defs", {})
        new = [name for name, each in definitions.items() if hoisted.get(name, (None,))[0] != each]
        for name in new:
            hoisted[name] = definitions[name], taken.add(component_name(slug, name))
        names = {name: component for name, (_, component) in hoisted.items()}
        for name in new:  # generators name classes after titles, and two classes can have the same
            schemas[names[name]] = portable(definitions[name], names) | {"title": names[name]}
        yield portable(form, names)
