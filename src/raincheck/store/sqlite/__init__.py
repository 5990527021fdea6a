"""The SQLite store: one file, any number of processes on one machine.

One thread per process writes, another reads (`threads`). Processes notify each other (`notifier`). Commits
are durable: WAL with ``synchronous=FULL``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from raincheck.core import clock
from raincheck.core.codec import decode_job
from raincheck.core.errors import StoreError, StoreUnavailable
from raincheck.core.model import Change, Claim, Entry, Schedule, Stored, WorkerInfo
from raincheck.store.base import (
    NO_LIMITS,
    Candidates,
    ClaimRequest,
    Counts,
    Due,
    Ended,
    Filter,
    Held,
    Listener,
    Missing,
    Outcome,
)
from raincheck.store.listeners import Listeners
from raincheck.store.sqlite import leases, reads, threads, writes
from raincheck.store.sqlite.connection import OpenFile, close, connect, in_memory, note_closed, note_open
from raincheck.store.sqlite.threads import Commit, Read, Reader, Write, Writer
from raincheck.store.sqlite.writes import Effects

T = TypeVar("T")

HEARTBEAT_TIMEOUT = 5.0
"""Seconds for which `SQLiteStore.heartbeat` waits for the thread that writes."""

__all__ = ["SQLiteStore"]


class SQLiteStore:
    """A `raincheck.store.base.Store` in the SQLite database at ``path``.

    A path ``:memory:`` followed by a name is a database in memory, which the stores of this process that have
    this name share; it is gone when the last of them is closed. ``now`` is the clock of the store.
    """

    kind = "sqlite"

    def __init__(self, path: Path, now: Callable[[], float] = clock.now) -> None:
        self.path = path
        self.now = now
        self._anchor: apsw.Connection | None = None
        self._opened: OpenFile | None = None
        self._listeners = Listeners(
            on_first=lambda: self._writer.batcher.wake()
        )  # to look what other processes do
        self._writer = Writer(self._listeners, now)
        self._reader = Reader()

    async def open(self) -> None:
        if self._writer.batcher.running:
            return
        path = await asyncio.to_thread(self._prepare)
        self._writer.start(path)
        self._reader.start(path)
        try:
            await self._write(_nothing)
        except BaseException:
            await asyncio.to_thread(self._stop)
            raise

    def _prepare(self) -> Path:
        """The path to connect to. The data of a database in memory is there while the anchor is open."""
        if not in_memory(self.path):
            self._opened = note_open(self.path)
            return self.path.absolute()  # the current folder may change
        self._anchor = connect(self.path)
        return self.path

    async def close(self) -> None:
        with suppress(StoreError):
            await self._write(_nothing)  # it is answered after all earlier calls
        await asyncio.to_thread(self._stop)
        self._listeners.notify({})  # waiting callers read again, and get an error

    def _stop(self) -> None:
        self._reader.batcher.close()
        self._writer.batcher.close()
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            close(anchor)
        if self._opened is not None:
            note_closed(self._opened)
            self._opened = None

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        return await self._writer.batcher.call(Commit(changes)) if changes else []

    async def claim(
        self,
        worker: str,
        functions: Sequence[str],
        limit: int,
        lease: float,
        wait: float = 0.0,
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> list[Claim]:
        request = ClaimRequest(worker, tuple(functions), limit, lease, limits)
        batcher = self._writer.batcher
        claimed = await batcher.call(threads.Claim(batcher, request, clock.monotonic() + wait))
        jobs = {n: decode_job(record) for n, record in claimed.records.items()}
        return [Claim(jobs[n], lease) for n, lease in claimed.leases]

    def heartbeat(self, worker: WorkerInfo, held: Sequence[Held], lease: float) -> list[int | None]:
        call = Write(
            lambda connection, effects: leases.heartbeat(connection, worker, held, lease, effects.now),
            threaded=True,
        )
        self._writer.batcher.put(call)
        try:
            answers: list[int | None] = call.future.result(HEARTBEAT_TIMEOUT)
        except TimeoutError:
            raise StoreUnavailable(f"{self.path} was busy for {HEARTBEAT_TIMEOUT:g} s") from None
        return answers

    async def release(self, held: Sequence[Held]) -> None:
        await self._write(threads.releaser(held))

    async def report(self, held: Held, progress: bytes) -> bool:
        return await self._write(lambda connection, effects: leases.report(connection, held, progress))

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        return await self._read(lambda connection: reads.find(connection, job_ids, self.now()))

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        return await self._read(lambda connection: reads.results(connection, wanted))

    async def journal(self, job_id: str, after: int, limit: int) -> list[Entry]:
        return await self._read(lambda connection: reads.journal(connection, job_id, after, limit))

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.listen(listener)

    async def page(self, which: Filter, limit: int, after: str | None = None) -> Candidates:
        return await self._read(lambda connection: reads.page(connection, which, limit, after))

    async def due(self, limit: int) -> Due:
        return await self._read(lambda connection: reads.due(connection, limit, self.now()))

    async def remove(self, jobs: Sequence[Ended], remember: float) -> list[bool]:
        return await self._write(
            lambda connection, effects: writes.remove(connection, jobs, remember, effects)
        )

    async def workers(self) -> list[WorkerInfo]:
        return await self._read(reads.workers)

    async def counts(self) -> Counts:
        return await self._read(reads.counts)

    async def put_schedule(self, schedule: Schedule) -> bool:
        return await self._write(lambda connection, effects: writes.put_schedule(connection, schedule))

    async def schedules(self, name: str | None = None) -> list[Schedule]:
        return await self._read(lambda connection: reads.schedules(connection, name))

    async def _write(self, do: Callable[[apsw.Connection, Effects], T]) -> T:
        return await self._writer.batcher.call(Write(do))

    async def _read(self, do: Callable[[apsw.Connection], T]) -> T:
        return await self._reader.batcher.call(Read(do))


def _nothing(connection: apsw.Connection, effects: Effects) -> None:
    pass
