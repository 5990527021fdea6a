"""Schedules over HTTP: put, look at, pause, run now, delete."""

from __future__ import annotations

import asyncio
from functools import partial

from raincheck.documents import raw
from raincheck.model import Schedule
from raincheck.schedules.documents import ScheduleDocument, schedule_document
from raincheck.schedules.requests import asked_for, defined
from raincheck.schedules.scheduler import Scheduler
from raincheck.server.bodies import json_body
from raincheck.server.exchange import Answer, Request, json_answer
from raincheck.server.jobs import accepted, submit
from raincheck.server.preferences import waiting
from raincheck.server.refusals import MALFORMED, Refused


async def everything(request: Request) -> Answer:
    """``GET /v1/schedule``"""
    scheduler = await _scheduler(request)
    return json_answer(200, await _documents(scheduler, *await scheduler.everything()))


async def find(request: Request) -> Answer:
    """``GET /v1/schedule/{name}``"""
    scheduler = await _scheduler(request)
    return await _answer(scheduler, await scheduler.find(request.target))


async def put(request: Request) -> Answer:
    """``PUT /v1/schedule/{name}``"""
    scheduler = await _scheduler(request)
    body = await json_body(request)
    now, app = request.app.jobs.store.now(), request.app
    if not body:
        raise Refused(MALFORMED, 'the body is empty: send at least {"every": …, "functions": [{"name": …}]}')
    asked = asked_for(body)
    make = partial(defined, request.target, asked, now=now, known=app.functions, limits=app.limits)
    made = await asyncio.to_thread(make)  # files of zones are read
    app.schedules.check(made)
    schedule, created = await scheduler.put(made, asked.paused)
    if not created:
        return await _answer(scheduler, schedule)
    location = (b"location", request.url(f"/v1/schedule/{schedule.name}"))
    return json_answer(201, (await _documents(scheduler, schedule))[0], location)


async def delete(request: Request) -> Answer:
    """``DELETE /v1/schedule/{name}``"""
    scheduler = await _scheduler(request)
    await scheduler.delete(request.target)
    return Answer(204)


async def pause(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/pause``"""
    scheduler = await _scheduler(request)
    return await _answer(scheduler, await scheduler.pause(request.target))


async def resume(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/resume``"""
    scheduler = await _scheduler(request)
    return await _answer(scheduler, await scheduler.resume(request.target))


async def run(request: Request) -> Answer:
    """``POST /v1/schedule/{name}/run``"""
    scheduler = await _scheduler(request)
    wait = waiting(request)
    stored = await submit(request, await scheduler.job_now(request.target), b"", wait)
    return await accepted(request, stored, wait)


async def _scheduler(request: Request) -> Scheduler:
    await request.jobs()
    return request.app.scheduler


async def _answer(scheduler: Scheduler, schedule: Schedule) -> Answer:
    return json_answer(200, (await _documents(scheduler, schedule))[0])


async def _documents(scheduler: Scheduler, *schedules: Schedule) -> list[ScheduleDocument]:
    upcoming = await scheduler.upcoming(*schedules)
    return [
        schedule_document(schedule, firings, raw)
        for schedule, firings in zip(schedules, upcoming, strict=True)
    ]
