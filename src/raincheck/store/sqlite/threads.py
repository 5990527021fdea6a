"""The two threads of a process: one writes, many calls per transaction; one reads, a snapshot per call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import apsw

from raincheck.core.clock import monotonic
from raincheck.core.codec import decode_job, encode_job
from raincheck.core.errors import StoreUnavailable
from raincheck.core.model import Change
from raincheck.store.base import ClaimRequest, Held, Outcome
from raincheck.store.batcher import Answers, Batcher, Call, fail
from raincheck.store.listeners import Listeners
from raincheck.store.sqlite import leases, writes
from raincheck.store.sqlite.connection import close, connect, transaction, translate
from raincheck.store.sqlite.notifier import Notification, Notifier
from raincheck.store.sqlite.writes import Effects

T = TypeVar("T")

LOOK = 1.0
"""Seconds between checks for changes by other processes; their notifications usually come first."""

LOOK_WHEN_DEAF = 0.025
"""The same, where processes cannot notify each other."""

NOTIFY_AGAIN = 0.05
"""Seconds before a process whose inbox was full is notified again."""

_CALL_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.TooBigError)
"""Errors of SQLite that the parameters of a call cause, not the file."""


class Write(Call[T]):
    """A function to call within a transaction."""

    def __init__(self, do: Callable[[apsw.Connection, Effects], T], *, threaded: bool = False) -> None:
        super().__init__(threaded=threaded)
        self.do = do


class Commit(Call[list[Outcome]]):
    """Changes to commit."""

    def __init__(self, batch: Sequence[Change]) -> None:
        super().__init__()
        self.records = [(change, encode_job(change.job)) for change in batch]


class Claim(Call[leases.Claimed]):
    """A claim that may wait for steps until a monotonic time."""

    def __init__(self, batcher: Batcher, request: ClaimRequest, until: float) -> None:
        super().__init__()
        self.batcher = batcher
        self.request = request
        self.until = until

    def discard(self, answer: leases.Claimed) -> None:
        ids = {n: decode_job(record).id for n, record in answer.records.items()}
        held = [Held(ids[n], lease.step, lease.token) for n, lease in answer.leases]
        if held:
            with suppress(StoreUnavailable):
                self.batcher.put(Write(releaser(held), threaded=True))


def releaser(held: Sequence[Held]) -> Callable[[apsw.Connection, Effects], None]:
    """The function that releases leases, for a `Write`."""
    return lambda connection, effects: leases.release(connection, held, effects)


class Writer:
    """Serves commits, claims and other writes. Claims that find no step wait here."""

    _path: Path
    _notifier: Notifier

    def __init__(self, listeners: Listeners, now: Callable[[], float]) -> None:
        self._listeners = listeners
        self._now = now
        self._connection: apsw.Connection | None = None
        self._waiting: list[Claim] = []
        self._due_at = math.inf  # monotonic: when the next queue entry that a claim waits for is due
        self._act_at = math.inf  # monotonic: the same, or the end of the wait of a claim, if that is earlier
        self._version = 0
        self._must_notify = False  # another process wrote, and the listeners here do not know it yet
        self._notified_at = -math.inf
        self.batcher = Batcher("raincheck-writer", self._serve, self._end, self._timeout)

    def start(self, path: Path) -> None:
        """Serve calls, with the database at ``path``."""
        self._path = path
        self._notifier = Notifier(path, self._receive)
        self.batcher.start()

    def _receive(self, notification: Notification) -> None:
        """Another process sent a notification. Called on the thread of the notifier."""
        if notification.all or notification.jobs:
            self._listeners.notify({} if notification.all else dict.fromkeys(notification.jobs))
        if notification.all or notification.functions:
            self.batcher.wake()

    def _timeout(self) -> float | None:
        """Seconds to wait for a call before `_serve` is called without one; None: no limit."""
        if self._notifier.behind:
            return NOTIFY_AGAIN
        if not self._waiting and not self._listeners.present:
            return None
        at = self._act_at if self._waiting else math.inf
        return max(0.0, min(at - monotonic(), self._look_every))

    @property
    def _look_every(self) -> float:
        return LOOK_WHEN_DEAF if self._notifier.deaf else LOOK

    def _serve(self, batch: list[Call[Any]]) -> None:
        self._notifier.notify_missed()
        try:
            connection = self._connected()
            self._listen(batch)
            retry_all = self._others_wrote(connection) or self._due_at <= monotonic()
            if batch or (self._waiting and (retry_all or self._act_at <= monotonic())):
                self._transact(connection, batch, retry_all)
        except Exception as error:  # noqa: BLE001 - every error is raised to the callers
            self._fail_all(batch, error)

    def _connected(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = connect(self._path)
            self._must_notify = True
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)

    def _listen(self, batch: list[Call[Any]]) -> None:
        """If a caller of this process waits, receive notifications, before the first look at the database."""
        if self._notifier.is_listening or self._notifier.deaf:
            return
        waits = self._listeners.present or any(isinstance(r, Claim) and r.until > monotonic() for r in batch)
        if waits and self._notifier.listen():
            self._must_notify = True

    def _others_wrote(self, connection: apsw.Connection) -> bool:
        """Whether another process wrote since the last check. If so, notifies the listeners."""
        version: int = connection.execute("PRAGMA data_version").get
        wrote, self._version = version != self._version, version
        self._must_notify = (self._must_notify or wrote) and self._listeners.present
        if self._must_notify and monotonic() - self._notified_at >= self._look_every:
            self._must_notify, self._notified_at = False, monotonic()
            self._listeners.notify({})
        return wrote

    def _transact(self, connection: apsw.Connection, batch: list[Call[Any]], retry_all: bool) -> None:
        """Serve a batch in one transaction. If one of its calls fails, serve each call in its own."""
        waiting, answers = self._waiting, Answers()
        try:
            with transaction(connection):
                effects = Effects(self._now())
                self._apply(connection, batch, answers, effects)
                drained = self._claim(connection, batch, retry_all, answers, effects)
        except Exception as error:
            self._waiting, self._due_at, self._act_at = waiting, 0.0, 0.0  # retry all of them
            if not batch or (isinstance(error, apsw.Error) and not isinstance(error, _CALL_ERRORS)):
                raise
            if len(batch) == 1:
                fail(batch, self._translated(error))
            else:
                for call in batch:  # an error of one call must not reach the others
                    self._transact(connection, [call], retry_all)
            return
        answers.send()
        self._notify(effects, drained)

    def _apply(
        self, connection: apsw.Connection, batch: list[Call[Any]], answers: Answers, effects: Effects
    ) -> None:
        """Commit all changes of the batch, then do its other writes."""
        commits = [call for call in batch if isinstance(call, Commit)]
        if commits:
            records = [record for commit in commits for record in commit.records]
            outcomes = iter(writes.commit(connection, records, effects))
            for commit in commits:
                answers.add(commit, list(islice(outcomes, len(commit.records))))
        for call in batch:
            if isinstance(call, Write):
                answers.add(call, call.do(connection, effects))

    def _claim(
        self,
        connection: apsw.Connection,
        batch: list[Call[Any]],
        retry_all: bool,
        answers: Answers,
        effects: Effects,
    ) -> set[str]:
        """Serve new claims, and waiting claims that may get a step or whose wait ends; the others wait on.

        With ``retry_all``, any waiting claim may get a step. Returns the functions without ready steps.
        """
        time, enqueued = monotonic(), effects.ready | effects.later
        attempted: list[Claim] = []
        waiting: list[Claim] = []
        for claim in self._waiting:
            if claim.future.cancelled():
                continue
            attempt = retry_all or claim.until <= time or not enqueued.isdisjoint(claim.request.functions)
            (attempted if attempt else waiting).append(claim)
        attempted += (call for call in batch if isinstance(call, Claim))
        drained: set[str] = set()
        unserved: set[str] = set()
        due_at = math.inf if retry_all else self._due_at
        for claim in attempted:
            if claim.future.cancelled():
                continue
            if drained.issuperset(claim.request.functions):  # as after an earlier of very many claims
                claimed = leases.NOTHING
            else:
                claimed = leases.claim(connection, claim.request, effects.now)
            if len(claimed.leases) < claim.request.limit:
                drained.update(set(claim.request.functions) - claim.request.limits.keys())
            if claimed.leases or claim.until <= time:
                answers.add(claim, claimed)
                continue
            waiting.append(claim)
            unserved.update(claim.request.functions)
        if unserved and (due := leases.next_due(connection, tuple(unserved))) is not None:
            due_at = min(due_at, time + min(max(0.0, due - effects.now), LOOK))
        self._waiting, self._due_at = waiting, due_at
        self._act_at = min([due_at, *(claim.until for claim in waiting)])
        return drained

    def _notify(self, effects: Effects, drained: set[str]) -> None:
        if effects.jobs:
            self._listeners.notify(effects.jobs)
        functions = effects.later | (effects.ready - drained)
        jobs = [job_id for job_id, job in effects.jobs.items() if job is None or job.rev > 1]
        if functions or jobs:
            self._notifier.notify(functions, jobs)

    def _fail_all(self, batch: list[Call[Any]], error: Exception) -> None:
        """Raise an error to all callers. After a failed sync the connection is not used again."""
        keeps_connection = isinstance(error, apsw.BusyError | apsw.FullError)
        if self._connection is not None and (self._connection.in_transaction or not keeps_connection):
            self._disconnect()
        fail([*batch, *self._waiting], self._translated(error))
        self._waiting = []

    def _translated(self, error: Exception) -> Exception:
        return translate(error, self._path) if isinstance(error, apsw.Error) else error

    def _end(self) -> None:
        fail(self._waiting, StoreUnavailable("the store is not open"))
        self._waiting = []
        self._notifier.close()
        self._disconnect()


class Read(Call[T]):
    """A function to call with a connection that only reads."""

    def __init__(self, do: Callable[[apsw.Connection], T]) -> None:
        super().__init__()
        self.do = do


class Reader:
    """Serves reads. Snapshots are short, because SQLite cannot reuse the WAL while one is open."""

    _path: Path

    def __init__(self) -> None:
        self._connection: apsw.Connection | None = None
        self.batcher = Batcher("raincheck-reader", self._serve, self._disconnect)

    def start(self, path: Path) -> None:
        """Serve calls, with the database at ``path``."""
        self._path = path
        self.batcher.start()

    def _serve(self, batch: list[Call[Any]]) -> None:
        answers = Answers()
        for call in batch:
            if isinstance(call, Read):
                answers.add(call, self._answer(call))
        answers.send()

    def _answer(self, read: Read[Any]) -> Any:
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            with transaction(self._connection, "DEFERRED"):
                return read.do(self._connection)
        except apsw.Error as error:
            self._disconnect()  # the next call connects again
            return translate(error, self._path)
        except Exception as error:  # noqa: BLE001 - it is raised to the caller
            return error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)
