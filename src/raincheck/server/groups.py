"""Groups over HTTP: what there is, triggering one, and how its runs go."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from raincheck.documents import raw
from raincheck.errors import Fault, InvalidInput, StoreError
from raincheck.groups.documents import RunDocument
from raincheck.groups.members import size_of
from raincheck.groups.runs import group_document, group_summary
from raincheck.jobs import Jobs, fingerprint
from raincheck.model import Stored
from raincheck.requests import Object, decoded
from raincheck.server.bodies import json_body
from raincheck.server.exchange import Answer, Request, json_answer
from raincheck.server.jobs import POLL, document_of, id_of
from raincheck.server.preferences import NOT_AT_ALL, Waiting, waiting
from raincheck.server.queries import idempotency_key

Arguments = Annotated[Raw, Meta(extra_json_schema={"type": ["array", "object"]})]


class TriggerRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is given: ``data`` over that of every job and of the follow-up, and other arguments.

    ``args`` has, by the names of jobs, the arguments of their first function: an array (by position) or an
    object (by name).
    """

    data: Object = field(default_factory=partial(Raw, b"{}"))
    args: dict[str, Arguments] = field(default_factory=dict)


_decode = msgspec.json.Decoder(TriggerRequest).decode


async def everything(request: Request) -> Answer:
    """``GET /v1/group``"""
    await request.jobs()
    return json_answer(200, [group_summary(declared) for declared in request.app.groups])


async def find(request: Request) -> Answer:
    """``GET /v1/group/{name}``"""
    await request.jobs()
    declared = request.app.groups.find(request.target)
    return json_answer(200, group_document(declared, await request.app.runs.recent(declared.name), raw))


async def trigger(request: Request) -> Answer:
    """``POST /v1/group/{name}``"""
    jobs = await request.jobs()
    wait = waiting(request)
    request.app.groups.find(request.target)
    body = await json_body(request)
    asked = _asked(body)
    args = {name: bytes(each) for name, each in asked.args.items()}
    draft = request.app.runs.draft(request.target, bytes(asked.data), args)
    key = idempotency_key(request)
    mark = b"" if key is None else fingerprint(b"POST", request.path.encode(), body)
    await request.app.directory.refresh()  # now, while there is no run yet that its failing would hide
    stored = await request.app.runs.trigger(draft, key, mark)
    if wait.seconds and not stored.job.state.ended:
        stored = await _waited(request, jobs, stored, wait)
    return await _accepted(request, stored, wait)


async def run(request: Request) -> Answer:
    """``GET /v1/group/{name}/{id}``"""
    jobs = await request.jobs()
    wait = waiting(request)._replace(respond_async=False)
    await request.app.directory.refresh()
    stored = await _run(request)
    if wait.seconds and not stored.job.state.ended:
        stored = await _waited(request, jobs, stored, wait)
    document = await _document(request, stored)
    poll = () if document.state.ended else (POLL,)
    return json_answer(200, document, *poll, *wait.applied(200))


async def cancel(request: Request) -> Answer:
    """``POST /v1/group/{name}/{id}/cancel``"""
    jobs = await request.jobs()
    await request.app.directory.refresh()
    stored = await _run(request)
    return await _accepted(request, await jobs.cancel(stored.job.id))


def _asked(body: bytes) -> TriggerRequest:
    if not body:
        return TriggerRequest()
    asked = decoded(_decode, body)
    if bytes(asked.data)[:1] != b"{":
        raise InvalidInput(Fault("expected an object", "/data"))
    return asked


async def _run(request: Request) -> Stored:
    """The run in the path. Raises `NotFound` or `Gone`."""
    name, _, run_id = request.target.partition("/")
    return await request.app.runs.find(name, id_of(run_id))


async def _waited(request: Request, jobs: Jobs, stored: Stored, wait: Waiting) -> Stored:
    """The run once it has ended, or as it is when the wait is over."""
    try:
        found = await request.server.waits.race(request, jobs.wait(stored.job.id, wait.seconds))
        return found or await jobs.find(stored.job.id)
    except StoreError:  # it was accepted, whatever comes after
        return stored


async def _document(request: Request, stored: Stored) -> RunDocument:
    return await request.app.runs.document(await document_of(request, stored), size_of(stored.job))


async def _accepted(request: Request, stored: Stored, wait: Waiting = NOT_AT_ALL) -> Answer:
    """200 and the run if it has ended, else 202 and where to look for it."""
    document = await _document(request, stored)
    url = request.url(f"/v1/group/{document.group}/{document.id}")
    if document.state.ended:
        return json_answer(200, document, (b"content-location", url), *wait.applied(200))
    return json_answer(202, document, (b"location", url), POLL, *wait.applied(202))
