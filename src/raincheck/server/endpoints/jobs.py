"""Jobs over HTTP: create, look at, wait for, list, cancel, retry, forget."""

from __future__ import annotations

import re

from raincheck.core.errors import NotFound
from raincheck.core.model import Job, Stored
from raincheck.engine.documents import JobPage, event_documents, raw
from raincheck.engine.idempotency import IdempotencyKey, key_of_job
from raincheck.server.bodies import job_request, json_body
from raincheck.server.http import Answer, Header, Request, json_answer
from raincheck.server.preferences import NOT_AT_ALL, Waiting, waiting
from raincheck.server.queries import idempotency_key, listing

POLL = (b"retry-after", b"1")
"""When to look again at a job that has not ended."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


async def create(request: Request) -> Answer:
    """``POST /v1/job``"""
    wait = waiting(request)
    asked = job_request(await json_body(request))
    engine = request.engine
    draft = engine.validator.draft(asked.name, asked.functions, asked, engine.store.now())
    key = key_of_job(idempotency_key(request), asked.name, asked.functions, asked, request.caller)
    return await accepted(request, await submit(request, draft, key, wait), wait)


async def find(request: Request) -> Answer:
    """``GET /v1/job/{id}``"""
    wait = waiting(request)._replace(respond_async=False)
    stored = await waited(request, job_id_of(request), wait)
    document = await request.engine.document(stored, raw)
    poll = () if document.state.ended else (POLL,)
    return json_answer(200, document, *poll, *wait.applied(200))


async def page(request: Request) -> Answer:
    """``GET /v1/job``"""
    asked = listing(request)
    found = await request.engine.jobs.page(asked.filter, asked.limit, asked.cursor or None)
    documents = await request.engine.documents(found.jobs, raw)
    headers: list[Header] = []
    if found.cursor is not None:
        url = b"%b?%b" % (request.url("/v1/job"), asked.after(found.cursor).encode())
        headers.append((b"link", b'<%b>; rel="next"' % url))
    return json_answer(200, JobPage(jobs=documents, cursor=found.cursor), *headers)


async def cancel(request: Request) -> Answer:
    """``POST /v1/job/{id}/cancel``"""
    return await accepted(request, await request.engine.jobs.cancel(job_id_of(request)))


async def retry(request: Request) -> Answer:
    """``POST /v1/job/{id}/retry``"""
    return await accepted(request, await request.engine.jobs.retry(job_id_of(request)))


async def forget(request: Request) -> Answer:
    """``DELETE /v1/job/{id}``"""
    await request.engine.jobs.forget(job_id_of(request))
    return Answer(204)


async def events(request: Request) -> Answer:
    """``GET /v1/job/{id}/events``"""
    stored = await request.engine.jobs.find(job_id_of(request))
    return json_answer(200, event_documents(stored.job.events))


async def submit(request: Request, draft: Job, key: IdempotencyKey | None, wait: Waiting) -> Stored:
    """Submit, and wait as preferred. No answer tells of a job that is not durable."""
    jobs = request.engine.jobs
    if not wait.seconds:
        return await jobs.submit(draft, key)
    async with request.site.waits.until_gone(request.gone()) as gone:
        return await jobs.submit(draft, key, wait.seconds, gone)


async def waited(request: Request, job_id: str, wait: Waiting) -> Stored:
    """A job once it has ended, or as it is when the wait is over."""
    jobs = request.engine.jobs
    if not wait.seconds:
        return await jobs.find(job_id)
    async with request.site.waits.until_gone(request.gone()) as gone:
        return await jobs.wait(job_id, wait.seconds, gone)


async def accepted(request: Request, stored: Stored, wait: Waiting = NOT_AT_ALL) -> Answer:
    """200 and the job if it has ended, else 202 and where to look for it."""
    document = await request.engine.document(stored, raw)
    url = job_url(request, document.id)
    if document.state.ended:
        return json_answer(200, document, (b"content-location", url), *wait.applied(200))
    return json_answer(202, document, (b"location", url), POLL, *wait.applied(202))


def job_url(request: Request, job_id: str) -> bytes:
    """Where a job is."""
    return request.url(f"/v1/job/{job_id}")


def job_id_of(request: Request) -> str:
    """The id in the path. Raises `NotFound` for what cannot be one."""
    return id_of(request.target)


def id_of(text: str) -> str:
    """The id of a job. Raises `NotFound` for what cannot be one."""
    job_id = text.lower()
    if not _UUID.fullmatch(job_id):
        raise NotFound(f"no job has the id {job_id[:50]!r}: use the id that the job was accepted with")
    return job_id
