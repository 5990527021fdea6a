"""Schedules over HTTP: put, look at, pause, run now, delete."""

from __future__ import annotations

import asyncio
from functools import partial

from raincheck.core.model import Schedule
from raincheck.engine.documents import raw
from raincheck.engine.idempotency import key_of_firing
from raincheck.engine.requests import decoded
from raincheck.engine.schedules.definition import define
from raincheck.engine.schedules.documents import ScheduleDocument, schedule_document
from raincheck.engine.schedules.requests import decode_schedule
from raincheck.server.bodies import json_body
from raincheck.server.endpoints.jobs import accepted, submit
from raincheck.server.http import Answer, Request, json_answer
from raincheck.server.preferences import waiting
from raincheck.server.queries import idempotency_key
from raincheck.server.refusals import MALFORMED, Refused


async def list_schedules(request: Request) -> Answer:
    """``GET /v1/schedule``"""
    schedules = await request.engine.scheduler.list_schedules()
    return json_answer(200, await _documents(request, *schedules))


async def find(request: Request) -> Answer:
    """``GET /v1/schedule/{name}``"""
    return await _answer(request, await request.engine.scheduler.find(request.target))


async def put(request: Request) -> Answer:
    """``PUT /v1/schedule/{name}``"""
    engine, body = request.engine, await json_body(request)
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send at least {"every": …, "functions": [{"name": …}]}')
    asked = decoded(decode_schedule, body)
    now = engine.store.now()
    make = partial(define, request.target, asked.functions, asked, engine.validator, now)
    made = await asyncio.to_thread(make)  # files of zones are read
    engine.schedules.check(made)
    schedule, created = await engine.scheduler.put(made, asked.paused)
    if not created:
        return await _answer(request, schedule)
    location = (b"location", request.url(f"/v1/schedule/{schedule.name}"))
    return json_answer(201, (await _documents(request, schedule))[0], location)


async def delete(request: Request) -> Answer:
    """``DELETE /v1/schedule/{name}``"""
    await request.engine.scheduler.delete(request.target)
    return Answer(204)


async def pause(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/pause``"""
    return await _answer(request, await request.engine.scheduler.pause(request.target))


async def resume(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/resume``"""
    return await _answer(request, await request.engine.scheduler.resume(request.target))


async def run(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/run``"""
    wait = waiting(request)
    draft = await request.engine.scheduler.job_now(request.target)
    key = key_of_firing(idempotency_key(request), request.target, request.caller)
    return await accepted(request, await submit(request, draft, key, wait), wait)


async def _answer(request: Request, schedule: Schedule) -> Answer:
    return json_answer(200, (await _documents(request, schedule))[0])


async def _documents(request: Request, *schedules: Schedule) -> list[ScheduleDocument]:
    upcoming = await request.engine.scheduler.upcoming(*schedules)
    return [
        schedule_document(schedule, firings, raw)
        for schedule, firings in zip(schedules, upcoming, strict=True)
    ]
