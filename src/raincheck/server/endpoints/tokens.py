"""``/v1/token``: a name and a password for a token."""

from __future__ import annotations

from raincheck.core.errors import NotFound
from raincheck.server.bodies import json_body, token_request
from raincheck.server.http import Answer, Request, json_answer


async def create(request: Request) -> Answer:
    """``POST /v1/token``"""
    auth = request.site.auth
    if auth is None:
        raise NotFound("no sign-in is configured here: send requests without a token")
    asked = token_request(await json_body(request))
    address = (request.scope.get("client") or ("",))[0]
    token = await auth.sign_in(asked.username, asked.password, asked.scope, address=address)
    return json_answer(200, token)
