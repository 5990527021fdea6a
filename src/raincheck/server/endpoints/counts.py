"""Counts over HTTP: how many jobs are in which state, how much waits for each function."""

from __future__ import annotations

from raincheck.engine.documents import CountDocument
from raincheck.server.http import Answer, Request, json_answer


async def count_jobs(request: Request) -> Answer:
    """``GET /v1/count``"""
    counts = await request.engine.store.counts()
    queued = dict(sorted(counts.queued.items()))
    return json_answer(200, CountDocument(jobs=counts.shown, queued=queued, running=counts.leased))
