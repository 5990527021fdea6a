"""The status of the server, its workers and its queues over HTTP."""

from __future__ import annotations

import asyncio

from raincheck.core.errors import StoreError
from raincheck.engine.documents import CountDocument, worker_document
from raincheck.server.http import Request, Response, json_response
from raincheck.server.problems import NOT_READY, RequestError

STORE_TIMEOUT = 2.0
"""Seconds within which the store of a ready server responds."""


async def is_alive(request: Request) -> Response:
    """``GET /healthz``: the event loop runs."""
    return json_response(200, {"status": "ok"})


async def is_ready(request: Request) -> Response:
    """``GET /readyz``: the store responds, and the server does not stop soon."""
    if request.services.long_polls.draining:
        raise RequestError(NOT_READY, "the server is stopping: use another server")
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            await request.engine.open()
            await request.engine.store.counts()
    except (StoreError, TimeoutError):
        detail = "the store does not respond: use another server, or retry later"
        raise RequestError(NOT_READY, detail) from None
    return json_response(200, {"status": "ready"})


async def list_workers(request: Request) -> Response:
    """``GET /v1/worker``"""
    workers = await request.engine.workers.read()
    return json_response(200, [worker_document(worker) for worker in workers])


async def count_jobs(request: Request) -> Response:
    """``GET /v1/count``"""
    counts = await request.engine.store.counts()
    queued = dict(sorted(counts.queued.items()))
    return json_response(200, CountDocument(jobs=counts.shown, queued=queued, running=counts.leased))
