"""Whether the server lives, and whether it is of use."""

from __future__ import annotations

import asyncio

from raincheck.core.errors import StoreError
from raincheck.server.http import Answer, Request, json_answer
from raincheck.server.refusals import NOT_READY, Refused

PATIENCE = 2.0
"""Seconds within which a store answers that can be worked with."""


async def alive(request: Request) -> Answer:
    """``GET /healthz``: the loop runs."""
    return json_answer(200, {"status": "ok"})


async def ready(request: Request) -> Answer:
    """``GET /readyz``: the store answers."""
    try:
        async with asyncio.timeout(PATIENCE):
            await request.engine.open()
            await request.engine.store.counts()
    except (StoreError, TimeoutError):
        raise Refused(NOT_READY, "the store does not answer: send requests elsewhere, or later") from None
    return json_answer(200, {"status": "ready"})
