"""Functions over HTTP: what can be called, and calling it."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.core.errors import NotFound
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import FunctionInfo, Problem, State, Stored
from raincheck.engine.documents import CallDocument, FunctionSummary, function_summary, raw
from raincheck.engine.idempotency import key_of_call
from raincheck.engine.results import load_one
from raincheck.engine.validation import split_arguments
from raincheck.server.bodies import json_body
from raincheck.server.endpoints.jobs import accepted, job_url, submit
from raincheck.server.http import Answer, Request, json_answer
from raincheck.server.preferences import Waiting, waiting
from raincheck.server.problems import answer_of
from raincheck.server.queries import idempotency_key

UNKNOWN = Problem(title="The job failed", detail="no reason is known")
CANCELLED = Problem(
    type="cancelled",
    title="The job was cancelled",
    status=409,
    detail="somebody cancelled it before it had a result: retry it, or call the function again",
)


async def call(request: Request) -> Answer:
    """``POST /v1/function/{name}``"""
    function = await _known(request)
    wait = waiting(request, function.wait)
    args, kwargs = split_arguments(await json_body(request))
    draft = request.engine.validator.call(function.name, args, kwargs)
    key = key_of_call(idempotency_key(request), function.name, args, kwargs, request.caller)
    stored = await submit(request, draft, key, wait)
    if not stored.job.state.ended:
        return await accepted(request, stored, wait)
    return _result(request, await load_one(request.engine.store, stored), wait)


async def find(request: Request) -> Answer:
    """``GET /v1/function/{name}``"""
    function = await _known(request)
    return json_answer(200, (await _summaries(request, [function]))[0])


async def list_functions(request: Request) -> Answer:
    """``GET /v1/function``"""
    infos = request.engine.workers.infos()
    return json_answer(200, await _summaries(request, [infos[name] for name in sorted(infos)]))


async def _known(request: Request) -> FunctionInfo:
    """The function in the path. Raises `NotFound`.

    Its name may begin with a slash, which a proxy may have merged with the one before.
    """
    workers = request.engine.workers
    for name in (request.target, f"/{request.target}"):
        if (info := workers.info(name)) is not None:
            return info
    await workers.read()  # its worker may have started just now
    info = workers.info(request.target) or workers.info(f"/{request.target}")
    if info is not None:
        return info
    raise NotFound(
        f"no function is named {request.target[:100]!r}, here or at a worker: GET /v1/function lists them; "
        "POST /v1/job also takes functions that no worker offers yet"
    )


async def _summaries(request: Request, infos: list[FunctionInfo]) -> list[FunctionSummary]:
    queued = (await request.engine.store.counts()).queued
    workers_of = request.engine.workers.workers_of
    return [function_summary(info, workers_of(info.name), queued.get(info.name, 0)) for info in infos]


def _result(request: Request, stored: Stored, wait: Waiting) -> Answer:
    """The answer of a call that has ended: its result, or the problem it ended with."""
    job = stored.job
    url = job_url(request, job.id)
    place = (b"content-location", url)
    if job.state is State.DONE:
        result = raw(previous_results(job, job.steps[-1].stage + 1))
        document = CallDocument(id=job.id, state=job.state, result=result)
        return json_answer(200, document, place, *wait.applied(200))
    problem = CANCELLED if job.state is State.CANCELLED else job.error or UNKNOWN
    status = problem.status if job.state is State.CANCELLED or problem.status >= 500 else 500
    return answer_of(replace(problem, instance=url.decode(), status=status), *wait.applied(status))
