"""Workers over HTTP: who is there."""

from __future__ import annotations

from raincheck.documents import worker_document
from raincheck.server.exchange import Answer, Request, json_answer


async def everybody(request: Request) -> Answer:
    """``GET /v1/worker``"""
    await request.jobs()
    workers = await request.app.directory.read()
    return json_answer(200, [worker_document(worker) for worker in workers])
