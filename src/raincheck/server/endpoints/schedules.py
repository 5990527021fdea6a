"""Schedules over HTTP: list, find, put, pause, resume, run now, delete."""

from __future__ import annotations

import asyncio
from functools import partial

from raincheck.core.model import Schedule
from raincheck.engine.documents import raw
from raincheck.engine.idempotency import key_of_firing
from raincheck.engine.schedules.definitions import decode_schedule, define
from raincheck.engine.schedules.documents import ScheduleDocument, schedule_document
from raincheck.server.endpoints.jobs import job_response
from raincheck.server.http import Request, Response, json_response
from raincheck.server.parameters import decoded_body, idempotency_key, parse_prefer


async def list_schedules(request: Request) -> Response:
    """``GET /v1/schedule``"""
    schedules = await request.engine.scheduler.list_schedules()
    return json_response(200, await _documents(request, *schedules))


async def find(request: Request) -> Response:
    """``GET /v1/schedule/{name}``"""
    return await _schedule_response(request, await request.engine.scheduler.find(request.target))


async def put(request: Request) -> Response:
    """``PUT /v1/schedule/{name}``"""
    engine = request.engine
    options = await decoded_body(request, decode_schedule, '{"every": …, "functions": [{"name": …}]}')
    now = engine.store.now()
    make = partial(define, request.target, options.functions, options, engine.validator, now)
    schedule = await asyncio.to_thread(make)  # reads files of time zones
    engine.schedules.check(schedule)
    schedule, is_new = await engine.scheduler.put(schedule, options.paused)
    if not is_new:
        return await _schedule_response(request, schedule)
    location = (b"location", request.url(f"/v1/schedule/{schedule.name}"))
    return json_response(201, (await _documents(request, schedule))[0], location)


async def delete(request: Request) -> Response:
    """``DELETE /v1/schedule/{name}``"""
    await request.engine.scheduler.delete(request.target)
    return Response(204)


async def pause(request: Request) -> Response:
    """``POST /v1/schedule/{name}/pause``"""
    return await _schedule_response(request, await request.engine.scheduler.pause(request.target))


async def resume(request: Request) -> Response:
    """``POST /v1/schedule/{name}/resume``"""
    return await _schedule_response(request, await request.engine.scheduler.resume(request.target))


async def run(request: Request) -> Response:
    """``POST /v1/schedule/{name}/run``"""
    engine, wait = request.engine, parse_prefer(request)
    draft = await engine.scheduler.draft_now(request.target)
    key = key_of_firing(idempotency_key(request), request.target, request.caller)
    async with request.long_poll(wait.seconds) as stop:
        stored = await engine.jobs.submit(draft, key, wait.seconds, stop)
    return await job_response(request, stored, wait)


async def _schedule_response(request: Request, schedule: Schedule) -> Response:
    return json_response(200, (await _documents(request, schedule))[0])


async def _documents(request: Request, *schedules: Schedule) -> list[ScheduleDocument]:
    upcoming = await request.engine.scheduler.upcoming(*schedules)
    return [
        schedule_document(schedule, firings, raw)
        for schedule, firings in zip(schedules, upcoming, strict=True)
    ]
