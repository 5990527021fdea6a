"""Jobs over HTTP: create, look at, wait for, list, cancel, retry, forget."""

from __future__ import annotations

import re
from contextlib import suppress

from raincheck.documents import JobDocument, JobPage, event_documents, job_document, raw
from raincheck.errors import NotFound, StoreError
from raincheck.jobs import Jobs, fingerprint
from raincheck.model import Job, Stored
from raincheck.results import load_one, load_stored
from raincheck.server.bodies import job_from, json_body
from raincheck.server.exchange import Answer, Header, Request, json_answer
from raincheck.server.preferences import NOT_AT_ALL, Waiting, waiting
from raincheck.server.queries import idempotency_key, listing

POLL = (b"retry-after", b"1")
"""When to look again at a job that has not ended."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


async def create(request: Request) -> Answer:
    """``POST /v1/job``"""
    jobs = await request.jobs()
    wait = waiting(request)
    body = await json_body(request)
    draft = job_from(body, jobs.store.now(), request.app.functions, request.app.limits)
    stored = await submit(request, draft, body, wait)
    return await accepted(request, stored, wait)


async def find(request: Request) -> Answer:
    """``GET /v1/job/{id}``"""
    jobs = await request.jobs()
    wait = waiting(request)._replace(respond_async=False)
    job_id = job_id_of(request)
    await request.app.directory.refresh()
    stored = None
    if wait.seconds:
        stored = await request.server.waits.race(request, jobs.wait(job_id, wait.seconds))
    document = await document_of(request, stored or await jobs.find(job_id))
    poll = () if document.state.ended else (POLL,)
    return json_answer(200, document, *poll, *wait.applied(200))


async def page(request: Request) -> Answer:
    """``GET /v1/job``"""
    jobs = await request.jobs()
    asked = listing(request)
    await request.app.directory.refresh()
    found = await jobs.page(asked.filter, asked.limit, asked.cursor or None)
    loaded = await load_stored(jobs.store, found.jobs)
    documents = [await document_of(request, stored) for stored in loaded if isinstance(stored, Stored)]
    headers: list[Header] = []
    if found.cursor is not None:
        url = b"%b?%b" % (request.url("/v1/job"), asked.after(found.cursor).encode())
        headers.append((b"link", b'<%b>; rel="next"' % url))
    return json_answer(200, JobPage(jobs=documents, cursor=found.cursor), *headers)


async def cancel(request: Request) -> Answer:
    """``POST /v1/job/{id}/cancel``"""
    jobs = await request.jobs()
    await request.app.directory.refresh()
    return await accepted(request, await jobs.cancel(job_id_of(request)))


async def retry(request: Request) -> Answer:
    """``POST /v1/job/{id}/retry``"""
    jobs = await request.jobs()
    await request.app.directory.refresh()
    return await accepted(request, await jobs.retry(job_id_of(request)))


async def forget(request: Request) -> Answer:
    """``DELETE /v1/job/{id}``"""
    jobs = await request.jobs()
    await jobs.forget(job_id_of(request))
    return Answer(204)


async def events(request: Request) -> Answer:
    """``GET /v1/job/{id}/events``"""
    jobs = await request.jobs()
    stored = await jobs.find(job_id_of(request))
    return json_answer(200, event_documents(stored.job.events))


async def submit(request: Request, draft: Job, body: bytes, wait: Waiting) -> Stored:
    """Submit, and wait as preferred. Nobody learns of a job that is not durable."""
    jobs = await request.jobs()
    key = idempotency_key(request)
    mark = b"" if key is None else fingerprint(request.scope["method"].encode(), request.path.encode(), body)
    await request.app.directory.refresh()  # now, while there is no job yet that its failing would hide
    if not wait.seconds:
        return await _submitted(jobs, draft, key, mark)
    with jobs.watches.watch(draft.id) as watch:
        stored = await _submitted(jobs, draft, key, mark)
        if stored.job.state.ended:
            return stored
        own = stored.job.id == draft.id
        work = jobs.watched(watch, draft.id, wait.seconds) if own else jobs.wait(stored.job.id, wait.seconds)
        with suppress(StoreError):  # it was accepted, whatever comes after
            found = await request.server.waits.race(request, work) or await jobs.find(stored.job.id)
            stored = await load_one(jobs.store, found)
        return stored


async def _submitted(jobs: Jobs, draft: Job, key: str | None, mark: bytes) -> Stored:
    """The job as it was just stored, or the one that its key stands for as it is now."""
    job = await jobs.submit(draft, key, mark)
    return Stored(job) if job.id == draft.id else await jobs.find(job.id)


async def accepted(request: Request, stored: Stored, wait: Waiting = NOT_AT_ALL) -> Answer:
    """200 and the job if it has ended, else 202 and where to look for it."""
    document = await document_of(request, stored)
    url = job_url(request, document.id)
    if document.state.ended:
        return json_answer(200, document, (b"content-location", url), *wait.applied(200))
    return json_answer(202, document, (b"location", url), POLL, *wait.applied(202))


async def document_of(request: Request, stored: Stored) -> JobDocument:
    """The job as its callers see it. Raises `Gone` if it was removed while its results were read."""
    loaded = await load_one(request.app.jobs.store, stored)
    return job_document(loaded, request.app.directory.offered, raw)


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
