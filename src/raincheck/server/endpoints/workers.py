"""Workers that connect over HTTP (docs/reference/worker-protocol.md)."""

from __future__ import annotations

from raincheck.core.codec import MAX_DEPTH
from raincheck.engine.remote import claims, protocol, registration, running
from raincheck.engine.remote.registration import Caller
from raincheck.server.http import ClientGone, Request, Response, json_response
from raincheck.server.parameters import decoded_body

TOKEN_HEADER = b"worker-token"


async def register(request: Request) -> Response:
    """``POST /v1/worker``"""
    example = '{"name": "node-1", "functions": [{"name": …}]}'
    asked = await decoded_body(request, protocol.decode_registration, example)
    address = str((request.scope.get("client") or ("",))[0])
    registered = await registration.register(request.engine, asked, address, request.scopes)
    return json_response(201, registered, (b"location", request.url(f"/v1/worker/{registered.id}")))


async def claim(request: Request) -> Response:
    """``POST /v1/worker/{id}/claim``"""
    caller = await _caller(request)
    asked = await decoded_body(request, protocol.decode_claim, '{"limit": 1, "wait": 20}')
    attempts: list[protocol.ClaimedAttempt] = []
    try:
        async with request.until_gone() as stop:
            attempts = await claims.claim(request.engine, caller, asked, stop)
            response = json_response(200, protocol.Claimed(attempts))
    except ClientGone:
        await claims.return_attempts(request.engine, attempts)
        raise
    return response


async def extend(request: Request) -> Response:
    """``POST /v1/worker/{id}/extend``"""
    caller = await _caller(request)
    asked = await decoded_body(request, protocol.decode_extend, '{"attempts": [{"id": …}]}')
    may_claim = not request.services.long_polls.ended
    return json_response(
        200,
        await running.extend(request.engine, request.services.finisher, caller, asked, may_claim=may_claim),
    )


async def finish(request: Request) -> Response:
    """``POST /v1/worker/{id}/finish``"""
    caller = await _caller(request)
    limit, depth = registration.finish_limit(request.engine), MAX_DEPTH + 3  # a result is in three levels
    example = '{"attempts": [{"id": …, "result": …}]}'
    asked = await decoded_body(request, protocol.decode_finish, example, limit, depth)
    endings = await request.services.finisher.finish(caller, asked.attempts)
    return json_response(200, protocol.Finished(endings))


async def release(request: Request) -> Response:
    """``POST /v1/worker/{id}/release``"""
    caller = await _caller(request)
    asked = await decoded_body(request, protocol.decode_release, '{"attempts": [{"id": …}]}')
    await running.release(request.engine, caller, asked)
    return Response(204)


async def leave(request: Request) -> Response:
    """``DELETE /v1/worker/{id}``"""
    await registration.leave(request.engine, await _caller(request))
    return Response(204)


async def _caller(request: Request) -> Caller:
    """The worker in the path. Raises `NotFound`, or `NotAllowed` without its token."""
    header = request.headers.get(TOKEN_HEADER)
    token = None if header is None else header.decode("latin-1")
    return await registration.find_caller(request.engine, request.target, token, request.scopes)
