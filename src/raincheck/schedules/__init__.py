"""Schedules: jobs that are submitted again and again, by cron expression or interval.

`definition` checks what a caller says, `timetable` says when it fires, `scheduler` keeps and fires them;
here is what an app offers of them in Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from raincheck.clock import now
from raincheck.codec import encode_schedule, to_json
from raincheck.documents import JobDocument
from raincheck.errors import Fault, InvalidFile, InvalidInput, RegisteredTooLate, RegistrationError
from raincheck.jobs import fingerprint
from raincheck.model import Schedule, Stored
from raincheck.schedules.definition import define
from raincheck.schedules.documents import ScheduleDocument, schedule_document
from raincheck.schedules.requests import in_file, pointer_to
from raincheck.schedules.scheduler import Scheduler
from raincheck.submission import Stages
from raincheck.yamlfile import Document

if TYPE_CHECKING:
    from raincheck.app import App

__all__ = ["Schedules"]


class Schedules:
    """The schedules of an app. All calls but `declare` are coroutines, and open the store if need be."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._coded: list[Schedule] = []
        self._filed: list[Schedule] = []

    @property
    def declared(self) -> list[Schedule]:
        """What the app declares in code and in its file, to be put by each server and worker that starts."""
        return [*self._coded, *self._filed]

    @property
    def scheduler(self) -> Scheduler:
        """The schedules in the store."""
        return self._app.scheduler

    def declare(self, name: str, functions: Stages = (), **options: Any) -> None:
        """Note a schedule that servers and workers put when they start.

        Raises `InvalidInput`, or `RegistrationError` if its name is taken or the app has started.
        """
        if self._app.opened:
            raise RegisteredTooLate(
                f"{name}: the app has started: declare schedules before that, or put them"
            )
        if any(other.name == name for other in self._coded):
            raise RegistrationError(f"{name}: a schedule of this name is declared already")
        self._coded.append(_marked(self._define(name, functions, source="code", **options)))

    def read(self, document: Document | None) -> None:
        """Note the schedules of the app's file, in place of what it said before. Raises `InvalidFile`."""
        known, limits = self._app.functions, self._app.limits
        filed = [] if document is None else in_file(document, now=now(), known=known, limits=limits)
        self._filed = [_marked(each) for each in filed]
        coded = {each.name: each for each in self._coded}
        for name, each in coded.items():
            for fault in self._group_faults(each):
                raise RegistrationError(f"schedule {name}: {fault.detail}")
        faults = [Fault("is declared in code already", pointer_to(e.name)) for e in filed if e.name in coded]
        for each in filed:
            faults += [Fault(what, pointer_to(each.name) + at) for what, at in self._group_faults(each)]
        if faults and document is not None:
            raise InvalidFile(*map(document.locate, faults))

    async def put(
        self, name: str, functions: Stages = (), *, paused: bool | None = None, **options: Any
    ) -> ScheduleDocument:
        """Create or replace a schedule; the options are those of `App.schedule`. Raises `InvalidInput`."""
        await self._app.open()
        made = await asyncio.to_thread(partial(self._define, name, functions, **options))
        self.check(made)
        schedule, _ = await self.scheduler.put(made, paused)
        return await self._document(schedule)

    async def find(self, name: str) -> ScheduleDocument:
        """The schedule as it is now. Raises `NotFound`."""
        await self._app.open()
        return await self._document(await self.scheduler.find(name))

    async def everything(self) -> list[ScheduleDocument]:
        """All schedules, by name."""
        await self._app.open()
        return [await self._document(schedule) for schedule in await self.scheduler.everything()]

    async def pause(self, name: str) -> ScheduleDocument:
        """Let it fire no more until it is resumed. Raises `NotFound`."""
        await self._app.open()
        return await self._document(await self.scheduler.pause(name))

    async def resume(self, name: str) -> ScheduleDocument:
        """Let it fire again; what fell into the pause is left out. Raises `NotFound`."""
        await self._app.open()
        return await self._document(await self.scheduler.resume(name))

    async def run(self, name: str) -> JobDocument:
        """Submit its job now; its firings stay as they are. Raises `NotFound`."""
        await self._app.open()
        return await self._app.document(
            Stored(await self._app.jobs.submit(await self.scheduler.job_now(name)))
        )

    async def delete(self, name: str) -> None:
        """Remove it; its jobs stay. Raises `NotFound`."""
        await self._app.open()
        await self.scheduler.delete(name)

    def check(self, made: Schedule) -> None:
        """Raise `InvalidInput` unless the group that it triggers is known here."""
        faults = self._group_faults(made)
        if faults:
            raise InvalidInput(*faults)

    def _group_faults(self, made: Schedule) -> list[Fault]:
        if made.group is None or any(declared.name == made.group for declared in self._app.groups):
            return []
        return [Fault(f"no group is named {made.group!r} here", "/group")]

    def _define(
        self,
        name: str,
        functions: Stages,
        *,
        data: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Schedule:
        known, limits = self._app.functions, self._app.limits
        return define(
            name, functions, data=to_json(data or {}), now=now(), known=known, limits=limits, **options
        )

    async def _document(self, schedule: Schedule) -> ScheduleDocument:
        (upcoming,) = await self.scheduler.upcoming(schedule)
        return schedule_document(schedule, upcoming)


def _marked(made: Schedule) -> Schedule:
    """A declaration, with what tells it from another one."""
    return replace(made, declared=fingerprint(encode_schedule(made)))
