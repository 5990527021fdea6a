"""Counts over HTTP: how many jobs are in which state, how much waits for each function."""

from __future__ import annotations

from raincheck.documents import CountDocument
from raincheck.server.exchange import Answer, Request, json_answer


async def everything(request: Request) -> Answer:
    """``GET /v1/count``"""
    jobs = await request.jobs()
    counts = await jobs.store.counts()
    queued = dict(sorted(counts.queued.items()))
    return json_answer(200, CountDocument(jobs=counts.shown, queued=queued, running=counts.leased))
