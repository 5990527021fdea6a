"""Jobs over HTTP: create, find, wait for, list, cancel, retry, delete."""

from __future__ import annotations

from math import ceil

from raincheck.auth import Scope
from raincheck.core.errors import NotFound
from raincheck.core.model import Job, Stored
from raincheck.engine.attempts import read_page as read_attempts
from raincheck.engine.bulk import change_jobs
from raincheck.engine.documents import event_documents, raw
from raincheck.engine.filters import Operation
from raincheck.engine.idempotency import key_of_job
from raincheck.engine.listings import read_page, store_filter
from raincheck.engine.requests import JOB_ID, decode_bulk, decode_job
from raincheck.server.http import Request, Response, json_response
from raincheck.server.parameters import (
    NO_WAIT,
    Listing,
    Paging,
    Wait,
    decoded_body,
    idempotency_key,
    next_query,
    parse_prefer,
    parse_query,
)
from raincheck.server.problems import Header

SHORTEST_POLL, LONGEST_POLL = 1, 30
"""The limits of ``Retry-After`` for an unfinished job, in seconds."""

AGE_PER_POLL = 5
"""An unfinished job is asked for again after its age divided by this."""


async def create(request: Request) -> Response:
    """``POST /v1/job``"""
    engine, wait = request.engine, parse_prefer(request)
    job = await decoded_body(request, decode_job, '{"name": …, "functions": [{"name": …}]}')
    draft = engine.validator.draft(job.name, job.functions, job, engine.store.now())
    key = key_of_job(idempotency_key(request), job.name, job.functions, job, request.caller)
    async with request.long_poll(wait.seconds) as stop:
        stored = await engine.jobs.submit(draft, key, wait.seconds, stop)
    return await job_response(request, stored, wait)


async def find(request: Request) -> Response:
    """``GET /v1/job/{id}``"""
    wait = parse_prefer(request)._replace(respond_async=False)
    stored = await wait_for_end(request, job_id_of(request.target), wait)
    document = await request.engine.document(stored, raw)
    poll = () if document.state.ended else (poll_header(request, stored.job),)
    return json_response(200, document, *poll, *wait.applied(200))


async def list_jobs(request: Request) -> Response:
    """``GET /v1/job``"""
    listing = parse_query(request, Listing)
    engine, cursor = request.engine, listing.cursor or None
    which = store_filter(listing, engine.store.now(), cursor, oldest_first=listing.sort == "oldest")
    page = await read_page(engine, which, listing.limit, cursor, listing.view)
    return json_response(200, page, *_next_page(request, "/v1/job", listing, page.cursor))


def _next_page(
    request: Request, path: str, query: Paging | Listing, cursor: str | None
) -> tuple[Header, ...]:
    """The ``Link`` to the next page of a list, if there is one."""
    if cursor is None:
        return ()
    return ((b"link", b'<%b?%b>; rel="next"' % (request.url(path), next_query(query, cursor).encode())),)


async def cancel(request: Request) -> Response:
    """``POST /v1/job/{id}/cancel``"""
    return await job_response(request, await request.engine.jobs.cancel(job_id_of(request.target)))


async def retry(request: Request) -> Response:
    """``POST /v1/job/{id}/retry``"""
    return await job_response(request, await request.engine.jobs.retry(job_id_of(request.target)))


async def delete(request: Request) -> Response:
    """``DELETE /v1/job/{id}``"""
    await request.engine.jobs.forget(job_id_of(request.target))
    return Response(204)


async def retry_many(request: Request) -> Response:
    """``POST /v1/job/retry``"""
    return await _change_many(request, Operation.RETRY)


async def cancel_many(request: Request) -> Response:
    """``POST /v1/job/cancel``"""
    return await _change_many(request, Operation.CANCEL)


async def delete_many(request: Request) -> Response:
    """``POST /v1/job/delete``"""
    return await _change_many(request, Operation.DELETE)


async def _change_many(request: Request, operation: Operation) -> Response:
    jobs = request.engine.jobs
    bulk = await decoded_body(request, decode_bulk, '{"filter": {"state": "failed"}}')
    bulk.check()
    which = store_filter(bulk.filter, jobs.store.now(), bulk.cursor, at="/filter")
    result = await change_jobs(jobs, operation, which, bulk.limit, bulk.cursor, dry_run=bulk.dry_run)
    return json_response(200, result)


async def list_events(request: Request) -> Response:
    """``GET /v1/job/{id}/events``"""
    stored = await request.engine.jobs.find(job_id_of(request.target))
    return json_response(200, event_documents(stored.job.events))


async def list_attempts(request: Request) -> Response:
    """``GET /v1/job/{id}/attempt``"""
    engine, paging, job_id = request.engine, parse_query(request, Paging), job_id_of(request.target)
    stored = await engine.jobs.find(job_id)
    page = await read_attempts(
        engine.store,
        stored.job,
        paging.limit,
        paging.cursor or None,
        max_bytes=engine.limits.page_bytes,
        tracebacks=request.allows(Scope.DEBUG),
    )
    return json_response(200, page, *_next_page(request, f"/v1/job/{job_id}/attempt", paging, page.cursor))


async def wait_for_end(request: Request, job_id: str, wait: Wait) -> Stored:
    """A job when it has ended, or as it is after the wait."""
    jobs = request.engine.jobs
    if not wait.seconds:
        return await jobs.find(job_id)
    async with request.long_poll(wait.seconds) as stop:
        return await jobs.wait(job_id, wait.seconds, stop)


async def job_response(request: Request, stored: Stored, wait: Wait = NO_WAIT) -> Response:
    """200 and the job if it has ended, else 202 and its URL."""
    document = await request.engine.document(stored, raw)
    url = job_url(request, document.id)
    if document.state.ended:
        return json_response(200, document, (b"content-location", url), *wait.applied(200))
    poll = poll_header(request, stored.job)
    return json_response(202, document, (b"location", url), poll, *wait.applied(202))


def poll_header(request: Request, job: Job) -> Header:
    """When to ask again for an unfinished job."""
    return b"retry-after", b"%d" % poll_seconds(job, request.engine.store.now())


def poll_seconds(job: Job, now: float) -> int:
    """When to ask again for an unfinished job, in seconds: when it starts, or after a fifth of its age.

    So a client learns the end of a job late by at most a fifth of its duration, and a short job is not kept
    waiting. The age of a job that was retried counts from its latest change.
    """
    start = job.updated_at if job.run > 1 or job.scheduled_at is None else job.scheduled_at
    seconds = start - now if start > now else (now - start) / AGE_PER_POLL
    return min(max(ceil(seconds), SHORTEST_POLL), LONGEST_POLL)


def job_url(request: Request, job_id: str) -> bytes:
    """The URL of a job."""
    return request.url(f"/v1/job/{job_id}")


def job_id_of(text: str) -> str:
    """The job id in a path. Raises `NotFound` for text that is not an id."""
    job_id = text.lower()
    if not JOB_ID.fullmatch(job_id):
        raise NotFound(f"{job_id[:50]!r} is not a job id: use the id in the response that accepted the job")
    return job_id
