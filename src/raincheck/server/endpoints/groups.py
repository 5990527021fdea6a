"""Groups over HTTP: what there is, triggering one, and how its runs go."""

from __future__ import annotations

from raincheck.core.model import Stored
from raincheck.engine.documents import raw
from raincheck.engine.groups.runs import group_document, group_summary
from raincheck.engine.idempotency import key_of_run
from raincheck.engine.requests import TriggerRequest, decode_trigger, decoded
from raincheck.server.bodies import json_body
from raincheck.server.endpoints.jobs import POLL, id_of, waited
from raincheck.server.http import Answer, Request, json_answer
from raincheck.server.preferences import NOT_AT_ALL, Waiting, waiting
from raincheck.server.queries import idempotency_key


async def list_groups(request: Request) -> Answer:
    """``GET /v1/group``"""
    return json_answer(200, [group_summary(group) for group in request.engine.groups])


async def find(request: Request) -> Answer:
    """``GET /v1/group/{name}``"""
    group = request.engine.groups.find(request.target)
    return json_answer(200, group_document(group, await request.engine.runs.recent(group.name), raw))


async def trigger(request: Request) -> Answer:
    """``POST /v1/group/{name}``"""
    runs, wait = request.engine.runs, waiting(request)
    name = request.engine.groups.find(request.target).name
    body = await json_body(request)
    asked = decoded(decode_trigger, body) if body else TriggerRequest()
    data, args = bytes(asked.data), {name: bytes(each) for name, each in asked.args.items()}
    draft = runs.draft(name, data, args)
    key = key_of_run(idempotency_key(request), name, data, args, request.caller)
    if not wait.seconds:
        return await _accepted(request, await runs.trigger(draft, key), wait)
    async with request.site.waits.until_gone(request.gone()) as gone:
        stored = await runs.trigger(draft, key, wait.seconds, gone)
    return await _accepted(request, stored, wait)


async def run(request: Request) -> Answer:
    """``GET /v1/group/{name}/{id}``"""
    wait = waiting(request)._replace(respond_async=False)
    stored = await _run(request)
    if not stored.job.state.ended:
        stored = await waited(request, stored.job.id, wait)
    document = await request.engine.run_document(stored, raw)
    poll = () if document.state.ended else (POLL,)
    return json_answer(200, document, *poll, *wait.applied(200))


async def cancel(request: Request) -> Answer:
    """``POST /v1/group/{name}/{id}/cancel``"""
    stored = await _run(request)
    return await _accepted(request, await request.engine.jobs.cancel(stored.job.id))


async def _run(request: Request) -> Stored:
    """The run in the path. Raises `NotFound` or `Gone`."""
    name, _, run_id = request.target.partition("/")
    return await request.engine.runs.find(name, id_of(run_id))


async def _accepted(request: Request, stored: Stored, wait: Waiting = NOT_AT_ALL) -> Answer:
    """200 and the run if it has ended, else 202 and where to look for it."""
    document = await request.engine.run_document(stored, raw)
    url = request.url(f"/v1/group/{document.group}/{document.id}")
    if document.state.ended:
        return json_answer(200, document, (b"content-location", url), *wait.applied(200))
    return json_answer(202, document, (b"location", url), POLL, *wait.applied(202))
