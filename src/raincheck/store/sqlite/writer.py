"""The thread that writes: every write of this process goes through it, many to a transaction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import apsw

from raincheck.core.clock import monotonic, now
from raincheck.core.codec import decode_job, encode_job
from raincheck.core.errors import StoreUnavailable
from raincheck.core.model import Change
from raincheck.store.base import Held, Outcome
from raincheck.store.batcher import Answers, Batcher, Call, fail
from raincheck.store.listeners import Listeners
from raincheck.store.sqlite import changes, leases
from raincheck.store.sqlite.changes import Effects
from raincheck.store.sqlite.connection import close, connect, transaction, translate
from raincheck.store.sqlite.notifier import Notification, Notifier

T = TypeVar("T")

LOOK = 1.0
"""Seconds between looks at what other processes did, where they can be heard: one may have been missed."""

LOOK_WHEN_DEAF = 0.025
NOTIFY_AGAIN = 0.05

FAULTY_REQUEST = (apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.TooBigError)
"""Errors of SQLite's that lie in what was asked, not in the file."""


class Write(Call[T]):
    """Something to be done within a transaction."""

    def __init__(self, do: Callable[[apsw.Connection, Effects], T], *, threaded: bool = False) -> None:
        super().__init__(threaded=threaded)
        self.do = do


class Commit(Call[list[Outcome]]):
    """Changes to be written."""

    def __init__(self, batch: Sequence[Change]) -> None:
        super().__init__()
        self.records = [(change, encode_job(change.job)) for change in batch]


class Claim(Call[leases.Taken]):
    """Steps to be leased; waits for some until a monotonic time."""

    def __init__(self, batcher: Batcher, demand: leases.Demand, until: float) -> None:
        super().__init__()
        self.batcher = batcher
        self.demand = demand
        self.until = until

    def abandoned(self, answer: leases.Taken) -> None:
        ids = {n: decode_job(record).id for n, record in answer.records.items()}
        held = [Held(ids[n], lease.step, lease.token) for n, lease in answer.leases]
        if held:
            with suppress(StoreUnavailable):
                self.batcher.put(Write(releaser(held), threaded=True))


def releaser(held: Sequence[Held]) -> Callable[[apsw.Connection, Effects], None]:
    """The write that gives leases back."""
    return lambda connection, effects: leases.release(connection, held, effects)


class Writer:
    """Serves commits, claims and other writes; keeps the claims that wait for something to do."""

    _path: Path
    _notifier: Notifier

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._connection: apsw.Connection | None = None
        self._waiting: list[Claim] = []
        self._due_at = math.inf  # when the next place becomes due that one of them waits for
        self._act_at = math.inf  # when that is, or one of them must wait no longer
        self._version = 0
        self._untold = False
        self._told_at = -math.inf
        self.batcher = Batcher("raincheck-writer", self._serve, self._end, self._patience)

    def start(self, path: Path) -> None:
        """Serve from now on, with the database at ``path``."""
        self._path = path
        self._notifier = Notifier(path, self._heard)
        self.batcher.start()

    def _heard(self, heard: Notification) -> None:
        """Called on the notifier's thread."""
        if heard.all or heard.jobs:
            self._listeners.notify({} if heard.all else dict.fromkeys(heard.jobs))
        if heard.all or heard.functions:
            self.batcher.wake()

    def _patience(self) -> float | None:
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
            stirred = self._others_wrote(connection) or self._due_at <= monotonic()
            if batch or (self._waiting and (stirred or self._act_at <= monotonic())):
                self._transact(connection, batch, stirred)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told
            self._break_off(batch, error)

    def _connected(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = connect(self._path)
            self._untold = True
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)

    def _listen(self, batch: list[Call[Any]]) -> None:
        """If somebody here is going to wait, hear the others, before it is looked what there is."""
        if self._notifier.settled:
            return
        waits = self._listeners.present or any(isinstance(r, Claim) and r.until > monotonic() for r in batch)
        if waits and self._notifier.listen():
            self._untold = True

    def _others_wrote(self, connection: apsw.Connection) -> bool:
        """Whether another process wrote since the last look. Those who wait for jobs are told so."""
        version: int = connection.execute("PRAGMA data_version").get
        wrote, self._version = version != self._version, version
        self._untold = (self._untold or wrote) and self._listeners.present
        if self._untold and monotonic() - self._told_at >= self._look_every:
            self._untold, self._told_at = False, monotonic()
            self._listeners.notify({})
        return wrote

    def _transact(self, connection: apsw.Connection, batch: list[Call[Any]], stirred: bool) -> None:
        """Serve a batch in one transaction; should one of its calls spoil it, each in one of its own."""
        waiting, answers = self._waiting, Answers()
        try:
            with transaction(connection):
                effects = Effects(now())
                self._apply(connection, batch, answers, effects)
                drained = self._claim(connection, batch, stirred, answers, effects)
        except Exception as error:
            self._waiting, self._due_at, self._act_at = waiting, 0.0, 0.0  # look again at all of them
            if not batch or (isinstance(error, apsw.Error) and not isinstance(error, FAULTY_REQUEST)):
                raise
            if len(batch) == 1:
                fail(batch, self._translated(error))
            else:
                for call in batch:  # the others must not suffer
                    self._transact(connection, [call], stirred)
            return
        answers.give()
        self._tell(effects, drained)

    def _apply(
        self, connection: apsw.Connection, batch: list[Call[Any]], answers: Answers, effects: Effects
    ) -> None:
        """Commit all changes of the batch, then do its other writes."""
        commits = [call for call in batch if isinstance(call, Commit)]
        if commits:
            records = [record for commit in commits for record in commit.records]
            outcomes = iter(changes.commit(connection, records, effects))
            for commit in commits:
                answers.add(commit, list(islice(outcomes, len(commit.records))))
        for call in batch:
            if isinstance(call, Write):
                answers.add(call, call.do(connection, effects))

    def _claim(
        self,
        connection: apsw.Connection,
        batch: list[Call[Any]],
        stirred: bool,
        answers: Answers,
        effects: Effects,
    ) -> set[str]:
        """Serve the claims that may get something or must wait no longer; the others go on waiting.

        The answer are the functions of which nothing is left that is ready.
        """
        time, placed = monotonic(), effects.ready | effects.later
        hopeful: list[Claim] = []
        patient: list[Claim] = []
        for claim in self._waiting:
            if claim.future.cancelled():
                continue
            hopes = stirred or claim.until <= time or not placed.isdisjoint(claim.demand.functions)
            (hopeful if hopes else patient).append(claim)
        hopeful += (call for call in batch if isinstance(call, Claim))
        drained: set[str] = set()
        due_at = math.inf if stirred else self._due_at
        for claim in hopeful:
            if claim.future.cancelled():
                continue
            taken = leases.claim(connection, claim.demand, effects.now)
            if len(taken.leases) < claim.demand.limit:
                drained.update(claim.demand.functions)
            if taken.leases or claim.until <= time:
                answers.add(claim, taken)
                continue
            patient.append(claim)
            due = leases.next_due(connection, claim.demand.functions)
            if due is not None:
                due_at = min(due_at, time + min(max(0.0, due - effects.now), LOOK))
        self._waiting, self._due_at = patient, due_at
        self._act_at = min([due_at, *(claim.until for claim in patient)])
        return drained

    def _tell(self, effects: Effects, drained: set[str]) -> None:
        if effects.jobs:
            self._listeners.notify(effects.jobs)
        functions = effects.later | (effects.ready - drained)
        jobs = [job_id for job_id, job in effects.jobs.items() if job is None or job.rev > 1]
        if functions or jobs:
            self._notifier.notify(functions, jobs)

    def _break_off(self, batch: list[Call[Any]], error: Exception) -> None:
        """Nothing could be done. What a failed sync left behind must not be trusted: begin anew."""
        passing = isinstance(error, apsw.BusyError | apsw.FullError)
        if self._connection is not None and (self._connection.in_transaction or not passing):
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
