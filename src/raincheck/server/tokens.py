"""``/v1/token``: a name and a password for a token."""

from __future__ import annotations

from raincheck.auth import Auth
from raincheck.server.bodies import json_body, token_request
from raincheck.server.exchange import Answer, Request, json_answer
from raincheck.server.refusals import NO_PATH, Refused


async def create(request: Request) -> Answer:
    """``POST /v1/token``"""
    auth = _who_signs(request.server.auth)
    body = await json_body(request)
    asked = token_request(body)
    address = (request.scope.get("client") or ("",))[0]
    token = await auth.sign_in(asked.username, asked.password, asked.scope, address=address)
    return json_answer(200, token)


def _who_signs(auth: Auth | None) -> Auth:
    """The sign-in, if users can sign in here. Raises `Refused`."""
    if auth is None:
        raise Refused(NO_PATH, "no sign-in is configured here: send requests without a token")
    if auth.jwks_url is not None:
        raise Refused(NO_PATH, f"tokens for this server come from {auth.issuer}: ask there")
    if auth.users is None:
        raise Refused(
            NO_PATH, "this server has no users: give it a file of users, made by raincheck user add"
        )
    return auth
