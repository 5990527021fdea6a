"""The lane that writes: every write of this process goes through it, many to a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from raincheck.clock import monotonic, now
from raincheck.errors import StoreUnavailable
from raincheck.model import Change, Job
from raincheck.store.signals import Signals
from raincheck.store.sqlite import changes, leases
from raincheck.store.sqlite.bell import Bell, Ring
from raincheck.store.sqlite.connection import connect, prepare, translate
from raincheck.store.sqlite.lane import Answers, Lane, Request
from raincheck.store.sqlite.leases import ClaimCall

LOOK = 1.0
"""Seconds between looks where the bell works, in case it was not heard."""
LOOK_WITHOUT_BELL = 0.015


class CommitCall(NamedTuple):
    """Changes with their records."""

    changes: list[tuple[Change, bytes]]


Write = Callable[[apsw.Connection], Any]


class Writer:
    """Serves commits, claims and other writes; keeps the claims that wait for something to do."""

    def __init__(self, path: Path, signals: Signals) -> None:
        self._path = path
        self._signals = signals
        self._bell = Bell(path)
        self._connection: apsw.Connection | None = None
        self._parked: list[Request] = []
        self._look_at = 0.0
        self._told_at = 0.0
        self._version = 0
        self._poked = False
        self._answers = Answers()
        self.lane = Lane("raincheck-writer", self._serve, self._patience)

    def listen(self) -> None:
        """Hear from other processes from now on."""
        self._bell.listen(self._heard)

    def poke(self) -> None:
        """Look at the waiting claims now."""
        self._poked = True
        self.lane.put(None)

    def _heard(self, ring: Ring) -> None:
        if ring.all or ring.jobs:
            self._signals.tell({} if ring.all else dict.fromkeys(ring.jobs))
        if ring.all or ring.functions:
            self.poke()

    def _patience(self) -> float | None:
        if self._bell.behind:
            return 0.005
        look = LOOK if self._bell.works else LOOK_WITHOUT_BELL
        if not self._parked:
            return look if self._signals.wanted else None
        at = min(self._look_at, *(request.call.until for request in self._parked))
        return max(0.0, min(at - monotonic(), look))

    def _serve(self, batch: list[Request]) -> None:
        if self._bell.behind:
            self._bell.ring_missed()
        if self._connection is None and not self._reconnect(batch):
            return
        if batch or self._must_look():
            self._transact(batch)
        self._drop_expired()

    def _reconnect(self, batch: list[Request]) -> bool:
        try:
            connection = connect(self._path)
            prepare(connection, self._path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told
            self._fail([*batch, *self._parked], error)
            self._parked.clear()
            return False
        self._connection = connection
        return True

    def _must_look(self) -> bool:
        """Whether waiting claims, or others who wait, should look at the database now."""
        assert self._connection is not None  # noqa: S101 - _serve has connected
        changed = self._version != (version := self._connection.data_version())
        self._version = version
        if changed and self._told_at <= monotonic():
            self._told_at = monotonic() + (LOOK if self._bell.works else LOOK_WITHOUT_BELL)
            self._signals.tell({})
        due = bool(self._parked) and (self._poked or changed or self._look_at <= monotonic())
        self._poked = False
        return due

    def _transact(self, batch: list[Request]) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - _serve has connected
        parked, self._parked = self._parked, []
        try:
            connection.execute("BEGIN IMMEDIATE")
            told = self._apply(connection, batch, parked)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - rolled back, and the callers are told
            self._parked = parked
            self._roll_back(error)
            if len(batch) > 1 and isinstance(
                error, apsw.ConstraintError | LookupError | TypeError | ValueError
            ):
                for request in batch:  # find the one to blame; the others must not suffer
                    self._transact([request])
            else:
                self._fail(batch, error)
            return
        self._answers.give()
        self._tell(*told)

    def _apply(
        self, connection: apsw.Connection, batch: list[Request], parked: list[Request]
    ) -> tuple[Mapping[str, Job], set[str]]:
        commits = [request for request in batch if isinstance(request.call, CommitCall)]
        written = self._commit(connection, commits)
        ready = set(written.due)
        claims = parked + [request for request in batch if isinstance(request.call, ClaimCall)]
        for request in batch:
            if not isinstance(request.call, CommitCall | ClaimCall):
                answer = request.call(connection)
                ready.update(answer.functions if isinstance(answer, Requeued) else ())
                self._answers.add(request, answer)
        drained = self._claim(connection, claims)
        time = now()
        return written.jobs, {f for f in ready if f not in drained or written.due.get(f, 0.0) > time}

    def _commit(self, connection: apsw.Connection, requests: list[Request]) -> changes.Written:
        everything = [pair for request in requests for pair in request.call.changes]
        if not everything:
            return changes.Written([], {}, {})
        written = changes.commit(connection, everything, now())
        at = 0
        for request in requests:
            size = len(request.call.changes)
            self._answers.add(request, written.outcomes[at : at + size])
            at += size
        return written

    def _claim(self, connection: apsw.Connection, requests: list[Request]) -> set[str]:
        """Serve claims; those that get nothing and may wait are parked. The functions left with none."""
        drained: set[str] = set()
        self._look_at = monotonic() + LOOK
        for request in requests:
            call: ClaimCall = request.call
            if request.future.cancelled():
                continue
            taken = leases.claim(connection, call, now())
            if taken or call.until <= monotonic():
                self._answers.add(request, taken)
            else:
                self._parked.append(request)
                due = leases.next_due(connection, call.functions)
                if due is not None:
                    self._look_at = min(self._look_at, monotonic() + max(0.0, due - now()))
            if len(taken) < call.limit:
                drained.update(call.functions)
        return drained

    def _tell(self, jobs: Mapping[str, Job], ready: set[str]) -> None:
        if jobs:
            self._signals.tell(jobs)
        old = [job.id for job in jobs.values() if job.rev > 1]
        if ready or old:
            self._bell.ring(ready, old)

    def _drop_expired(self) -> None:
        time = monotonic()
        for request in [r for r in self._parked if r.call.until <= time or r.future.cancelled()]:
            self._parked.remove(request)
            self._answers.add(request, [])
        self._answers.give()

    def _fail(self, requests: list[Request], error: BaseException) -> None:
        for request in requests:
            self._answers.add(request, translate(error, self._path))
        self._answers.give()

    def _roll_back(self, error: BaseException) -> None:
        self._answers.drop()
        connection = self._connection
        assert connection is not None  # noqa: S101 - a transaction was begun on it
        try:
            if connection.in_transaction:  # SQLite may have rolled back by itself
                connection.execute("ROLLBACK")
            broken = isinstance(error, apsw.IOError)
        except apsw.Error:
            broken = True
        if broken:  # what a failed sync left behind must not be trusted: begin anew
            self._connection = None
            connection.close(True)

    def finish(self) -> None:
        """Let go of everything; called once the lane has ended."""
        self._fail(self._parked, StoreUnavailable("the store is closed"))
        self._parked.clear()
        self._bell.close()
        if self._connection is not None:
            self._connection.close()


class Requeued(NamedTuple):
    """The answer of a write that put places of these functions back into the queue."""

    functions: set[str]
