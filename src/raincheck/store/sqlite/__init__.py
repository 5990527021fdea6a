"""The SQLite store: one file, any number of processes on one machine.

Writes go through one thread a process, many to a transaction (`writer`); reads through another
(`reader`). Processes wake each other by a doorbell (`bell`). Durable: WAL with ``synchronous=FULL``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from raincheck import clock
from raincheck.codec import decode_job
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.model import Change, Claim, Schedule, Stored, WorkerInfo
from raincheck.store.base import Counts, Filter, Held, Listener, Missing, Outcome, Page
from raincheck.store.signals import Signals, Watch
from raincheck.store.sqlite import leases, reads, schedules, upkeep, writer
from raincheck.store.sqlite.changes import News
from raincheck.store.sqlite.reader import Read, Reader
from raincheck.store.sqlite.writer import Commit, Write, Writer

T = TypeVar("T")

EXTEND_TIMEOUT = 5.0

__all__ = ["SQLiteStore"]


class SQLiteStore:
    """A `raincheck.store.base.Store` in the SQLite database at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._signals = Signals(attend=lambda: self._writer.lane.wake())  # to look what other processes do
        self._writer = Writer(self._signals)
        self._reader = Reader()

    def now(self) -> float:
        return clock.now()

    async def open(self) -> None:
        if self._writer.lane.running:
            return
        path = await asyncio.to_thread(self.path.absolute)  # whatever becomes the current folder later
        self._writer.start(path)
        self._reader.start(path)
        try:
            await self._write(_nothing)
        except BaseException:
            await asyncio.to_thread(self._stop)
            raise

    async def close(self) -> None:
        with suppress(StoreError):
            await self._write(_nothing)  # once this is answered, so is all before it
        await asyncio.to_thread(self._stop)
        self._signals.fire({})  # so that who waits finds it closed

    def _stop(self) -> None:
        self._reader.lane.close()
        self._writer.lane.close()

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        return await self._writer.lane.ask(Commit(changes)) if changes else []

    async def claim(
        self, worker: str, functions: Sequence[str], limit: int, lease: float, wait: float = 0.0
    ) -> list[Claim]:
        demand = leases.Demand(worker, tuple(functions), limit, lease)
        lane = self._writer.lane
        taken = await lane.ask(writer.Claim(lane, demand, clock.monotonic() + wait))
        jobs = {n: decode_job(record) for n, record in taken.records.items()}
        return [Claim(jobs[n], lease) for n, lease in taken.leases]

    def extend(self, held: Sequence[Held], lease: float) -> list[int | None]:
        request = Write(
            lambda connection, news: leases.extend(connection, held, news.now + lease), threaded=True
        )
        self._writer.lane.put(request)
        try:
            answers: list[int | None] = request.future.result(EXTEND_TIMEOUT)
        except TimeoutError:
            raise StoreUnavailable(f"{self.path} was busy for {EXTEND_TIMEOUT:g} s") from None
        return answers

    async def release(self, held: Sequence[Held]) -> None:
        await self._write(writer.releaser(held))

    async def report(self, held: Held, progress: bytes) -> bool:
        return await self._write(lambda connection, news: leases.report(connection, held, progress))

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        return await self._read(lambda connection: reads.find(connection, job_ids, clock.now()))

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        return await self._signals.changed(job_id, rev, wait, self._find)

    async def _find(self, job_id: str) -> Stored | Missing:
        (found,) = await self.find([job_id])
        return found

    def watch(self, job_id: str) -> Watch:
        return self._signals.watch(job_id)

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._signals.listen(listener)

    async def page(self, which: Filter, limit: int, cursor: str | None = None) -> Page:
        return await self._read(lambda connection: reads.page(connection, which, limit, cursor))

    async def lost(self, limit: int) -> list[Claim]:
        return await self._read(lambda connection: reads.lost(connection, limit, clock.now()))

    async def alarmed(self, limit: int) -> list[Stored]:
        return await self._read(lambda connection: reads.alarmed(connection, limit, clock.now()))

    async def prune(self, limit: int, remember: float) -> int:
        return await self._write(lambda connection, news: upkeep.prune(connection, limit, remember, news))

    async def forget(self, job_id: str, rev: int, remember: float) -> bool:
        return await self._write(
            lambda connection, news: upkeep.forget(connection, job_id, rev, remember, news)
        )

    async def register(self, worker: WorkerInfo, ttl: float) -> None:
        await self._write(lambda connection, news: upkeep.register(connection, worker, ttl, news.now))

    async def unregister(self, worker_id: str) -> None:
        await self._write(lambda connection, news: upkeep.unregister(connection, worker_id))

    async def workers(self) -> list[WorkerInfo]:
        return await self._read(lambda connection: reads.workers(connection, clock.now()))

    async def counts(self) -> Counts:
        return await self._read(reads.counts)

    async def put_schedule(self, schedule: Schedule) -> bool:
        return await self._write(lambda connection, news: schedules.put(connection, schedule))

    async def drop_schedule(self, name: str) -> bool:
        return await self._write(lambda connection, news: schedules.drop(connection, name))

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        return await self._read(lambda connection: schedules.find(connection, name))

    async def due_schedules(self, limit: int) -> list[Schedule]:
        return await self._read(lambda connection: schedules.due(connection, limit, clock.now()))

    async def _write(self, do: Callable[[apsw.Connection, News], T]) -> T:
        return await self._writer.lane.ask(Write(do))

    async def _read(self, do: Callable[[apsw.Connection], T]) -> T:
        return await self._reader.lane.ask(Read(do))


def _nothing(connection: apsw.Connection, news: News) -> None:
    pass
