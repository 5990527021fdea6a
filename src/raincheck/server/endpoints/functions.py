"""Functions over HTTP: list, find, call."""

from __future__ import annotations

from msgspec.structs import replace

from raincheck.core.errors import NotFound
from raincheck.core.lifecycle import previous_results
from raincheck.core.model import FunctionInfo, Problem, State, Stored
from raincheck.engine.documents import CallDocument, FunctionSummary, function_summary, raw
from raincheck.engine.idempotency import key_of_call
from raincheck.engine.results import load_one
from raincheck.engine.validation import split_arguments
from raincheck.functions.registry import NAME_LIMIT
from raincheck.server.endpoints.jobs import job_response, job_url
from raincheck.server.http import Request, Response, json_response, problem_response
from raincheck.server.parameters import Wait, idempotency_key, json_body, parse_prefer
from raincheck.server.problems import CANCELLED, new_problem

UNKNOWN = Problem(title="Job failed", detail="the job has no error")
NO_RESULT = new_problem(
    CANCELLED,
    "the job was cancelled before it had a result: retry the job, or call the function again",
)


async def call(request: Request) -> Response:
    """``POST /v1/function/{name}``"""
    function = await _function(request)
    wait = parse_prefer(request, function.wait)
    args, kwargs = split_arguments(await json_body(request))
    draft = request.engine.validator.call(function.name, args, kwargs)
    key = key_of_call(idempotency_key(request), function.name, args, kwargs, request.caller)
    async with request.long_poll(wait.seconds) as stop:
        stored = await request.engine.jobs.submit(draft, key, wait.seconds, stop)
    if not stored.job.state.ended:
        return await job_response(request, stored, wait)
    return _result_response(request, await load_one(request.engine.store, stored), wait)


async def find(request: Request) -> Response:
    """``GET /v1/function/{name}``"""
    function = await _function(request)
    return json_response(200, (await _summaries(request, [function]))[0])


async def list_functions(request: Request) -> Response:
    """``GET /v1/function``"""
    infos = request.engine.workers.infos()
    return json_response(200, await _summaries(request, [infos[name] for name in sorted(infos)]))


async def _function(request: Request) -> FunctionInfo:
    """The function in the path. Raises `NotFound`.

    Its name may begin with a slash, which a proxy may have merged with the slash before it.
    """
    workers, name = request.engine.workers, request.target
    info = workers.info(name) or workers.info(f"/{name}")
    if info is None:
        await workers.read()  # its worker may just have started
        info = workers.info(name) or workers.info(f"/{name}")
    if info is not None:
        return info
    hint = f" {workers.hint(name[:NAME_LIMIT])}".rstrip()
    raise NotFound(
        f"no function is named {name[:100]!r}, on this server or a worker.{hint} GET /v1/function lists the "
        "functions; POST /v1/job accepts functions that no worker offers yet"
    )


async def _summaries(request: Request, infos: list[FunctionInfo]) -> list[FunctionSummary]:
    queued = (await request.engine.store.counts()).queued
    workers_of = request.engine.workers.workers_of
    return [function_summary(info, workers_of(info.name), queued.get(info.name, 0)) for info in infos]


def _result_response(request: Request, stored: Stored, wait: Wait) -> Response:
    """The response to a call whose job has ended: its result, or the problem of the job."""
    job = stored.job
    url = job_url(request, job.id)
    if job.state is State.DONE:
        result = raw(previous_results(job, job.steps[-1].stage + 1))
        document = CallDocument(id=job.id, state=job.state, result=result)
        return json_response(200, document, (b"content-location", url), *wait.applied(200))
    problem = NO_RESULT if job.state is State.CANCELLED else job.error or UNKNOWN
    status = problem.status if job.state is State.CANCELLED or problem.status >= 500 else 500
    return problem_response(replace(problem, instance=url.decode(), status=status), *wait.applied(status))
