"""Workers over HTTP: who is there."""

from __future__ import annotations

from raincheck.engine.documents import worker_document
from raincheck.server.http import Answer, Request, json_answer


async def list_workers(request: Request) -> Answer:
    """``GET /v1/worker``"""
    workers = await request.engine.workers.read()
    return json_answer(200, [worker_document(worker) for worker in workers])
