"""The SQLite store: one file, any number of processes on one machine.

Writes go through one thread a process, many to a transaction (`writer`); reads through another
(`reads`). Processes wake each other by a doorbell (`bell`). Durable: WAL with ``synchronous=FULL``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from raincheck import clock
from raincheck.codec import decode_job, encode_job
from raincheck.model import Change, Claim, Stored, WorkerInfo
from raincheck.store.base import Counts, Filter, Held, Listener, Missing, Outcome, Page
from raincheck.store.signals import Signals, Watch
from raincheck.store.sqlite import leases, reads, upkeep
from raincheck.store.sqlite.connection import connect, translate
from raincheck.store.sqlite.lane import Answers, Lane, Request
from raincheck.store.sqlite.leases import ClaimCall
from raincheck.store.sqlite.writer import CommitCall, Requeued, Writer

EXTEND_TIMEOUT = 5.0

__all__ = ["SQLiteStore"]


class SQLiteStore:
    """A `raincheck.store.base.Store` in the SQLite database at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._signals = Signals()
        self._writer = Writer(self.path, self._signals)
        self._reader = Lane("raincheck-reader", self._read)
        self._connection: apsw.Connection | None = None

    def now(self) -> float:
        return clock.now()

    async def open(self) -> None:
        self._writer.lane.start()
        try:
            await self._write(lambda connection: None)
        except BaseException:
            self._writer.lane.close()
            raise
        self._reader.start()

    async def close(self) -> None:
        if self._writer.lane.is_alive():
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for lane in (self._reader, self._writer.lane):
            if lane.is_alive():
                lane.close()
                lane.join()
        if self._connection is not None:
            self._connection.close()
        self._writer.finish()

    async def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes: list[Outcome] = await self._writer.lane.ask(
            CommitCall([(change, encode_job(change.job)) for change in changes])
        )
        return outcomes

    async def claim(
        self, worker: str, functions: Sequence[str], limit: int, lease: float, wait: float = 0.0
    ) -> list[Claim]:
        if wait:
            self._writer.listen()
        call = ClaimCall(worker, tuple(functions), limit, lease, clock.monotonic() + wait)
        taken: leases.Taken = await self._writer.lane.ask(call, self._give_back)
        return [Claim(decode_job(record), lease) for record, lease in taken]

    def _give_back(self, taken: leases.Taken) -> None:
        held = [Held(decode_job(record).id, lease.step, lease.token) for record, lease in taken]
        if held:
            self._writer.lane.put(Request(_releaser(held), threaded=True))

    def extend(self, held: Sequence[Held], lease: float) -> list[int | None]:
        request = Request(
            lambda connection: leases.extend(connection, held, clock.now() + lease), threaded=True
        )
        self._writer.lane.put(request)
        answers: list[int | None] = request.future.result(timeout=EXTEND_TIMEOUT)
        return answers

    async def release(self, held: Sequence[Held]) -> None:
        await self._write(_releaser(held))

    async def report(self, held: Held, progress: bytes) -> bool:
        noted: bool = await self._write(functools.partial(_report, held, progress))
        return noted

    async def find(self, job_ids: Sequence[str]) -> list[Stored | Missing]:
        found: list[Stored | Missing] = await self._ask_reader(
            lambda connection: reads.find(connection, job_ids)
        )
        return found

    async def changed(self, job_id: str, rev: int, wait: float) -> Stored | Missing | None:
        self._writer.listen()
        self._writer.lane.put(None)  # so that it looks for changes by others from now on
        return await self._signals.changed(job_id, rev, wait, self._find)

    async def _find(self, job_id: str) -> Stored | Missing:
        (found,) = await self.find([job_id])
        return found

    def watch(self, job_id: str) -> Watch:
        self._writer.listen()
        return self._signals.watch(job_id)

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._writer.listen()
        return self._signals.listen(listener)

    async def page(self, which: Filter, limit: int, cursor: str | None = None) -> Page:
        page: Page = await self._ask_reader(lambda connection: reads.page(connection, which, limit, cursor))
        return page

    async def lost(self, limit: int) -> list[Claim]:
        claims: list[Claim] = await self._ask_reader(
            lambda connection: reads.lost(connection, limit, clock.now())
        )
        return claims

    async def alarmed(self, limit: int) -> list[Stored]:
        jobs: list[Stored] = await self._ask_reader(
            lambda connection: reads.alarmed(connection, limit, clock.now())
        )
        return jobs

    async def prune(self, limit: int, remember: float) -> int:
        removed: int = await self._write(
            lambda connection: upkeep.prune(connection, limit, remember, clock.now())
        )
        return removed

    async def forget(self, job_id: str, rev: int, remember: float) -> bool:
        forgotten: bool = await self._write(
            lambda connection: upkeep.forget(connection, job_id, rev, remember, clock.now())
        )
        return forgotten

    async def register(self, worker: WorkerInfo, ttl: float) -> None:
        await self._write(lambda connection: upkeep.register(connection, worker, ttl, clock.now()))

    async def unregister(self, worker_id: str) -> None:
        await self._write(lambda connection: upkeep.unregister(connection, worker_id))

    async def workers(self) -> list[WorkerInfo]:
        found: list[WorkerInfo] = await self._ask_reader(
            lambda connection: reads.workers(connection, clock.now())
        )
        return found

    async def counts(self) -> Counts:
        counted: Counts = await self._ask_reader(reads.counts)
        return counted

    async def _write(self, write: Callable[[apsw.Connection], Any]) -> Any:
        return await self._writer.lane.ask(write)

    async def _ask_reader(self, read: Callable[[apsw.Connection], Any]) -> Any:
        return await self._reader.ask(read)

    def _read(self, batch: list[Request]) -> None:
        """Serve a batch of reads from one snapshot."""
        answers = Answers()
        try:
            if self._connection is None:
                self._connection = connect(self.path)
            self._connection.execute("BEGIN")
        except Exception as error:  # noqa: BLE001 - the callers are told
            for request in batch:
                answers.add(request, translate(error, self.path))
            answers.give()
            return
        for request in batch:
            try:
                answers.add(request, request.call(self._connection))
            except Exception as error:  # noqa: BLE001 - the caller is told, the others go on
                answers.add(request, translate(error, self.path))
        self._connection.execute("COMMIT")
        answers.give()


def _releaser(held: Sequence[Held]) -> Callable[[apsw.Connection], Requeued]:
    return lambda connection: Requeued(set(leases.release(connection, held)))


def _report(held: Held, progress: bytes, connection: apsw.Connection) -> bool:
    return leases.report(connection, held, progress)
