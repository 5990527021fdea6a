"""Who may do what: every route says what it needs, and nothing is let through that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from raincheck.auth import Scope
from raincheck.server.http import Endpoint
from raincheck.server.openapi.paths import Schema, ref

PUBLIC: Final = "public"
"""Needs no token, and is the same for everybody."""

READ, WRITE = Scope.READ, Scope.WRITE

Need = Scope | Literal["public"]
Guarded = tuple[Need, Endpoint]
"""What a request needs, and the endpoint that then answers it."""

Routes = Mapping[str, Mapping[str, Guarded]]

SECURITY: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of POST /v1/token with the scope that the operation names, or `admin`.",
    }
}


def check_routes(routes: Mapping[str, Mapping[str, object]]) -> None:
    """Raise `TypeError` if a route does not say what it needs: it must not be open by mistake."""
    for path, methods in routes.items():
        for method, guarded in methods.items():
            if not (isinstance(guarded, tuple) and (guarded[0] in list(Scope) or guarded[0] == PUBLIC)):
                raise TypeError(f"{method} {path} says neither PUBLIC nor the scope it needs")


def with_security(paths: Mapping[str, Schema], routes: Routes) -> Iterator[tuple[str, Schema]]:
    """The paths of an OpenAPI document, each operation with the scope it needs and what else it answers."""
    refusals = {"401": ref("responses", "Problem401"), "403": ref("responses", "Problem403")}
    needs = {path.replace(":path}", "}"): methods for path, methods in routes.items()}
    for path, item in paths.items():
        methods = needs.get(path) or needs["/v1/function/{name}"]
        secured: dict[str, Any] = {}
        for method, operation in item.items():
            need = methods[method.upper()][0]
            more = {} if need == PUBLIC else {"security": [{"bearer": [str(need)]}]}
            answers = operation["responses"] | ({} if need == PUBLIC else refusals)
            secured[method] = operation | more | {"responses": dict(sorted(answers.items()))}
        yield path, secured
