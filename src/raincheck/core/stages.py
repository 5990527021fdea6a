"""The stages of a job: which steps are open, their queue entries, and how a change of them is built.

The rules of `raincheck.core.lifecycle` write to a `ChangeBuilder`. It has the steps in one list and counts
the open steps by state, so that a change for many triggers costs about one pass over the steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from raincheck.core.codec import merge
from raincheck.core.journal import attempt_entry, has_journal, recorded_attempts
from raincheck.core.model import (
    Attempt,
    AttemptOutcome,
    Change,
    EndedAttempt,
    Entry,
    Event,
    Job,
    Key,
    Problem,
    QueueEntry,
    Release,
    State,
    Step,
)
from raincheck.core.triggers import DOING, DONE, PENDING, RETRYING, SCHEDULED

INLINE_RESULT = 1024
"""Bytes up to which a result is kept in the record of its job; a larger one is written beside it."""

MAX_EVENTS = 100
"""Events that a job keeps, the latest; their numbers continue."""

CANCEL_CHECK = 15.0
"""Seconds between checks of a job that is being cancelled: a worker can release a step without a message."""

GATHER_CHECK, GATHER_CHECK_MOST = 5.0, 60.0
"""Seconds between checks of a job that waits for the jobs of its group, in case a notification of their end
was lost: at first, and at most."""

_DATED = (SCHEDULED, RETRYING)
_BY_PROGRESS = (DOING, PENDING, RETRYING, SCHEDULED)
"""The states of an open step, the most advanced first."""


def current_stage(job: Job) -> int:
    """The first stage that is not done; if all are done, the last stage."""
    return _first_open_stage(job.steps)


def gathering_step(job: Job) -> int | None:
    """The step of the current stage that waits for the jobs of a group; None: no step does."""
    return None if job.state.ended else _gathering_step(job.steps, current_stage(job))


def is_open(step: Step, stage: int) -> bool:
    """Whether a step belongs to the current stage, ``stage``, and has not ended."""
    return step.stage == stage and not step.state.ended


class ChangeBuilder:
    """A `Change` of ``job`` at ``now`` (seconds since the epoch), while the lifecycle writes to it.

    ``job`` has the fields that rarely change; `build` adds the rest: ``steps``, ``state``, ``finished_at``,
    ``error``, events and data. ``results`` are large results of steps, ``journal`` has entries.
    ``open_steps`` is the number of steps of the current stage that have not ended; ``next_due`` is the
    earliest due time of those that wait for one. A queue entry that the change both puts and removes is not
    written.
    """

    __slots__ = (
        "_data",
        "_events",
        "_has_journal",
        "_number",
        "_open",
        "_result_bytes",
        "drop",
        "error",
        "finished_at",
        "hold",
        "job",
        "journal",
        "next_due",
        "now",
        "open_steps",
        "put",
        "release",
        "results",
        "stage",
        "state",
        "steps",
        "take",
    )

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.now = now
        self.state = job.state
        self.finished_at = job.finished_at
        self.error = job.error
        self.steps = list(job.steps)
        self.take: dict[int, QueueEntry] = {}
        self.release: dict[int, Release] = {}
        self.hold: dict[int, Release] = {}
        self.drop: dict[int, QueueEntry] = {}
        self.put: dict[int, QueueEntry] = {}
        self.results: dict[int, bytes] = {}
        self.journal: list[Entry] = []
        self._has_journal: bool | None = None
        self._result_bytes: int | None = None
        self._events: list[Event] = []
        self._number = job.events[-1].number if job.events else 0
        self._data: list[bytes] = []
        self._enter(_first_open_stage(job.steps))

    @property
    def gathering_step(self) -> int | None:
        """The step of the current stage that waits for the jobs of a group; None: no step does."""
        return None if self.state.ended else _gathering_step(self.steps, self.stage)

    @property
    def result_bytes(self) -> int:
        """The size of all results of the job together."""
        total = self._result_bytes
        if total is None:
            total = 0
            for step in self.steps:
                if step.result_size is not None:
                    total += step.result_size
                elif step.result is not None:
                    total += len(step.result)
            self._result_bytes = total
        return total

    @property
    def has_journal(self) -> bool:
        """Whether the journal of the job has started: then successes are entered too."""
        started = self._has_journal
        if started is None:
            started = self._has_journal = has_journal(self.job)
        return started

    def is_due(self, moment: float) -> bool:
        """Whether the due time of a step of the current stage is reached at ``moment``."""
        return any(s.state in _DATED and s.due <= moment and is_open(s, self.stage) for s in self.steps)

    def resting_state(self) -> State:
        """The state of the job while no step is leased: the state of its most advanced open step."""
        if not self.state.ended:
            for state in _BY_PROGRESS:
                if self._open.get(state):
                    return state
        return self.state

    def has_ended_lease(self, step: int) -> bool:
        """Whether this change ends the lease on a step, or puts the step into the queue."""
        return step in self.release or step in self.drop or step in self.put

    def update(self, **fields: Any) -> None:
        """Set fields of the job, except those that `build` adds."""
        self.job = replace(self.job, **fields)

    def end(self, state: State, error: Problem | None = None) -> None:
        """End the job in this state."""
        if state is not DONE:
            self._start_journal()
        self.state, self.error, self.finished_at = state, error, self.now

    def reopen(self) -> None:
        """Make an ended job pending again."""
        self.state, self.error, self.finished_at = PENDING, None, None

    def set_step(self, index: int, step: Step) -> None:
        """Replace a step by one of the same stage."""
        before, self.steps[index] = self.steps[index], step
        if before.stage != self.stage:
            return
        if not before.state.ended:
            self._open[before.state] -= 1
            self.open_steps -= 1
        if not step.state.ended:
            self._count(step)

    def keep_result(self, index: int, result: bytes) -> tuple[bytes | None, int | None]:
        """``result`` and ``result_size`` of a step, for its record; a large result goes beside the record."""
        size = len(result)
        if self._result_bytes is not None:
            self._result_bytes += size
        if size <= INLINE_RESULT:
            return result, None
        self.results[index] = result
        return None, size

    def add_data(self, data: bytes) -> None:
        """Merge the top-level keys of a JSON object into the data of the job."""
        self._data.append(data)

    def add_event(self, kind: str, step: int | None = None) -> None:
        """Add an event with the next number."""
        self._number += 1
        self._events.append(Event(self._number, self.now, kind, step))

    def add_attempt(
        self, attempt: Attempt, outcome: AttemptOutcome, error: Problem | None = None, traceback: str = ""
    ) -> None:
        """Enter an attempt that ends now into the journal, before its step counts it."""
        if outcome is not AttemptOutcome.DONE:
            self._start_journal()
        step = self.steps[attempt.step]
        ended = EndedAttempt(
            run=self.job.run,
            number=step.retry_count + step.lost_count + 1,
            worker=attempt.worker,
            started_at=attempt.started_at,
            finished_at=self.now,
            outcome=outcome,
            error=error,
            traceback=traceback,
        )
        self.journal.append(attempt_entry(attempt.step, ended))

    def _start_journal(self) -> None:
        """Enter the attempts that have succeeded before, unless the journal has started."""
        if not self.has_journal:
            self._has_journal = True
            self.journal += recorded_attempts(self.steps, self.job.run)

    def enqueue(self, index: int) -> None:
        """Put a step into the queue of its function."""
        self.put[index] = _entry_of(self.job, index, self.steps[index])

    def make_ready(self, stage: int, due: float) -> None:
        """Make ``stage`` the current one: its steps are due at ``due`` and enter their queues."""
        state = SCHEDULED if due > self.now else PENDING
        for i, step in enumerate(self.steps):
            if is_open(step, stage):
                self.steps[i] = replace(step, state=state, due=due)
                if step.gather is None:
                    self.enqueue(i)
        self._enter(stage)

    def settle(self, moment: float) -> None:
        """Make steps of the current stage pending if they are due at ``moment``."""
        for i, step in enumerate(self.steps):
            if step.state in _DATED and step.due <= moment and is_open(step, self.stage):
                self.steps[i] = replace(step, state=PENDING)
        self._enter(self.stage)

    def strike(self, keep: Collection[int] = ()) -> dict[int, QueueEntry]:
        """Cancel the open steps of the stage, except those in ``keep``; the queue entries to remove."""
        struck: dict[int, QueueEntry] = {}
        for i, step in enumerate(self.steps):
            if not is_open(step, self.stage):
                continue
            if step.gather is not None:
                self.set_step(i, replace(step, state=State.CANCELLED, finished_at=self.now))
            elif i not in keep:
                if self.put.pop(i, None) is None:
                    struck[i] = _entry_of(self.job, i, step)
                self.set_step(i, replace(step, state=State.CANCELLED))
        return struck

    def build(self, *, key: Key | None = None, not_applied: Sequence[int] = ()) -> Change:
        """The change, with the job in ``state``, at its next revision."""
        job = self.job
        events = (*job.events, *self._events)
        job = replace(
            job,
            rev=job.rev + 1,
            state=self.state,
            updated_at=self.now,
            finished_at=self.finished_at,
            error=self.error,
            steps=tuple(self.steps),
            events=events if len(events) <= MAX_EVENTS else events[-MAX_EVENTS:],
            data=merge(job.data, *self._data) if self._data else job.data,
        )
        return Change(  # most of these are empty in most changes
            job=job,
            take=tuple(self.take.values()) if self.take else (),
            release=tuple(self.release.values()) if self.release else (),
            hold=tuple(self.hold.values()) if self.hold else (),
            drop=tuple(self.drop.values()) if self.drop else (),
            put=tuple(self.put.values()) if self.put else (),
            check_at=self._check_at(job),
            key=key,
            results=tuple(self.results.items()) if self.results else (),
            journal=tuple(self.journal) if self.journal else (),
            not_applied=tuple(not_applied) if not_applied else (),
        )

    def _check_at(self, job: Job) -> float | None:
        """When maintenance has to check the job, if ever."""
        if job.state.ended:
            return (job.finished_at or 0.0) + job.result_ttl
        times = [] if job.expires_at is None else [job.expires_at]
        if self.next_due < inf:
            times += [s.due for s in self.steps if s.state in _DATED and is_open(s, self.stage)]
        if job.cancel_requested_at is not None:
            times.append(self.now + CANCEL_CHECK)
        if job.state is not SCHEDULED and (index := _gathering_step(self.steps, self.stage)) is not None:
            age = self.now - self.steps[index].due
            times.append(self.now + min(max(GATHER_CHECK, age / 2), GATHER_CHECK_MOST))
        return min(times) if times else None

    def _enter(self, stage: int) -> None:
        """Make ``stage`` the current one: count its open steps."""
        self.stage = stage
        self.open_steps = 0
        self._open: dict[State, int] = {}
        self.next_due = inf
        for step in self.steps:
            if step.stage == stage and not step.state.ended:  # is_open, without a call per step
                self._count(step)

    def _count(self, step: Step) -> None:
        state = step.state
        self.open_steps += 1
        self._open[state] = self._open.get(state, 0) + 1
        if state in _DATED and step.due < self.next_due:
            self.next_due = step.due


def _first_open_stage(steps: Sequence[Step]) -> int:
    for step in steps:
        if step.state is not DONE:
            return step.stage
    return steps[-1].stage


def _gathering_step(steps: Sequence[Step], stage: int) -> int | None:
    for index, step in enumerate(steps):
        if step.gather is not None and is_open(step, stage):
            return index
    return None


def _entry_of(job: Job, index: int, step: Step) -> QueueEntry:
    return QueueEntry(index, step.function, job.priority, step.due)
