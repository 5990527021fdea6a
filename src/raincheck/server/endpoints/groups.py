"""Groups over HTTP: list, find, trigger; find and cancel their runs."""

from __future__ import annotations

from raincheck.core.model import Stored
from raincheck.engine.documents import raw
from raincheck.engine.groups.documents import group_document, group_summary
from raincheck.engine.idempotency import key_of_run
from raincheck.engine.requests import TriggerRequest, decode_trigger, decoded
from raincheck.server.endpoints.jobs import job_id_of, poll_header, wait_for_end
from raincheck.server.http import Request, Response, json_response
from raincheck.server.parameters import NO_WAIT, Wait, idempotency_key, json_body, parse_prefer


async def list_groups(request: Request) -> Response:
    """``GET /v1/group``"""
    return json_response(200, [group_summary(group) for group in request.engine.groups])


async def find(request: Request) -> Response:
    """``GET /v1/group/{name}``"""
    group = request.engine.groups.find(request.target)
    return json_response(200, group_document(group, await request.engine.runs.recent(group.name), raw))


async def trigger(request: Request) -> Response:
    """``POST /v1/group/{name}``"""
    runs, wait = request.engine.runs, parse_prefer(request)
    group = request.engine.groups.find(request.target).name
    body = await json_body(request)
    run = decoded(decode_trigger, body) if body else TriggerRequest()
    data, args = bytes(run.data), {name: bytes(each) for name, each in run.args.items()}
    draft = runs.draft(group, data, args)
    key = key_of_run(idempotency_key(request), group, data, args, request.caller)
    async with request.long_poll(wait.seconds) as stop:
        stored = await runs.trigger(draft, key, wait.seconds, stop)
    return await _run_response(request, stored, wait)


async def find_run(request: Request) -> Response:
    """``GET /v1/group/{name}/{id}``"""
    wait = parse_prefer(request)._replace(respond_async=False)
    stored = await _run(request)
    if not stored.job.state.ended:
        stored = await wait_for_end(request, stored.job.id, wait)
    document = await request.engine.run_document(stored, raw)
    poll = () if document.state.ended else (poll_header(request, stored.job),)
    return json_response(200, document, *poll, *wait.applied(200))


async def cancel_run(request: Request) -> Response:
    """``POST /v1/group/{name}/{id}/cancel``"""
    stored = await _run(request)
    return await _run_response(request, await request.engine.jobs.cancel(stored.job.id))


async def _run(request: Request) -> Stored:
    """The run in the path. Raises `NotFound` or `Gone`."""
    name, _, run_id = request.target.partition("/")
    return await request.engine.runs.find(name, job_id_of(run_id))


async def _run_response(request: Request, stored: Stored, wait: Wait = NO_WAIT) -> Response:
    """200 and the run if it has ended, else 202 and its URL."""
    document = await request.engine.run_document(stored, raw)
    url = request.url(f"/v1/group/{document.group}/{document.id}")
    if document.state.ended:
        return json_response(200, document, (b"content-location", url), *wait.applied(200))
    poll = poll_header(request, stored.job)
    return json_response(202, document, (b"location", url), poll, *wait.applied(202))
