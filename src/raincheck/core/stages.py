"""The stages of a job: which of its steps are open, where they wait, and how a change of them is built.

`ChangeBuilder` is what the rules of `raincheck.core.lifecycle` write to. It keeps the steps in one list and
counts the open ones by state, so that a change that folds many triggers costs about one pass over the steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from raincheck.core.codec import merge
from raincheck.core.model import Change, Event, Job, Key, Problem, QueueEntry, Release, State, Step
from raincheck.core.triggers import DOING, DONE, PENDING, RETRYING, SCHEDULED

MAX_EVENTS = 100
"""How many of a job's latest events are kept. Their numbers go on."""

CANCEL_CHECK = 15.0
"""Seconds between checks of a job that is being cancelled: its worker may give a step back unheard."""

GATHER_CHECK, GATHER_CHECK_MOST = 5.0, 60.0
"""Seconds between checks of a job that waits for the jobs of its group, in case nobody was told of their
end: at first, and when it has waited for long."""

_DATED = (SCHEDULED, RETRYING)
_BY_PROGRESS = (DOING, PENDING, RETRYING, SCHEDULED)
"""The states of an open step, the most advanced first."""


def current_stage(job: Job) -> int:
    """The first stage that is not done, or the last one."""
    return _first_open_stage(job.steps)


def gathering_step(job: Job) -> int | None:
    """The step that waits for the jobs of a group, if the job has reached one."""
    return None if job.state.ended else _gathering_step(job.steps, current_stage(job))


def is_open(step: Step, stage: int) -> bool:
    """Whether a step belongs to the current stage, ``stage``, and has not ended."""
    return step.stage == stage and not step.state.ended


class ChangeBuilder:
    """A `Change` of ``job`` at ``now`` (seconds since the epoch) while the rules of the lifecycle make it.

    ``job`` is the job so far, but what changes most is beside it until `build`: ``steps``, ``state``,
    ``finished_at``, ``error``, events and data. ``results`` are large results of steps. A place that the
    change both puts and strikes is not written.
    """

    __slots__ = (
        "_counts",
        "_data",
        "_events",
        "_next_due",
        "_number",
        "_result_bytes",
        "drop",
        "error",
        "finished_at",
        "hold",
        "job",
        "now",
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
        self.stage = 0
        self.take: dict[int, QueueEntry] = {}
        self.release: dict[int, Release] = {}
        self.hold: dict[int, Release] = {}
        self.drop: dict[int, QueueEntry] = {}
        self.put: dict[int, QueueEntry] = {}
        self.results: dict[int, bytes] = {}
        self._result_bytes: int | None = None
        self._counts: dict[State, int] = {}
        self._next_due = inf
        self._events: list[Event] = []
        self._number = job.events[-1].number if job.events else 0
        self._data: list[bytes] = []
        self._enter(_first_open_stage(self.steps))

    @property
    def has_open_steps(self) -> bool:
        """Whether a step of the current stage has not ended."""
        return any(self._counts.values())

    @property
    def gathering_step(self) -> int | None:
        """The step that waits for the jobs of a group, if the job has reached one."""
        return None if self.state.ended else _gathering_step(self.steps, self.stage)

    @property
    def result_bytes(self) -> int:
        """How many bytes the results of the job have in all."""
        if self._result_bytes is None:
            self._result_bytes = sum(map(_result_size, self.steps))
        return self._result_bytes

    def is_due(self, moment: float) -> bool:
        """Whether the time of a step of the current stage has come by ``moment``."""
        return any(s.state in _DATED and s.due <= moment and is_open(s, self.stage) for s in self.steps)

    def resting_state(self) -> State:
        """The state of the job while no worker holds a step: that of its most advanced open step."""
        if not self.state.ended:
            for state in _BY_PROGRESS:
                if self._counts.get(state):
                    return state
        return self.state

    def has_ended_lease(self, step: int) -> bool:
        """Whether this very change ends the lease on a step, or puts the step into the queue."""
        return step in self.release or step in self.drop or step in self.put

    def update(self, **fields: Any) -> None:
        """Set fields of the job, other than those that are beside it."""
        self.job = replace(self.job, **fields)

    def end(self, state: State, error: Problem | None = None) -> None:
        """End the job in this state."""
        self.state, self.error, self.finished_at = state, error, self.now

    def reopen(self) -> None:
        """Let an ended job go on."""
        self.state, self.error, self.finished_at = PENDING, None, None

    def set_step(self, index: int, step: Step) -> None:
        """Replace a step."""
        before, self.steps[index] = self.steps[index], step
        if is_open(before, self.stage):
            self._counts[before.state] -= 1
        if is_open(step, self.stage):
            self._count(step)

    def add_result(self, index: int, result: bytes, *, is_large: bool) -> None:
        """Add the result of a step to those of the job; a large one is written beside the record."""
        if self._result_bytes is not None:
            self._result_bytes += len(result)
        if is_large:
            self.results[index] = result

    def add_data(self, data: bytes) -> None:
        """Merge the top-level keys of a JSON object into the job's data."""
        self._data.append(data)

    def add_event(self, kind: str, step: int | None = None) -> None:
        """Add the job's next event."""
        self._number += 1
        self._events.append(Event(self._number, self.now, kind, step))

    def enqueue(self, index: int) -> None:
        """Put the place of a step into its queue."""
        self.put[index] = _entry_of(self.job, index, self.steps[index])

    def make_ready(self, stage: int, due: float) -> None:
        """Make the open steps of a stage ready for ``due``, and put their places into the queues."""
        state = SCHEDULED if due > self.now else PENDING
        for i, step in enumerate(self.steps):
            if is_open(step, stage):
                self.steps[i] = replace(step, state=state, due=due)
                if step.gather is None:
                    self.enqueue(i)
        self._enter(stage)

    def settle(self, moment: float) -> None:
        """Steps of the current stage whose time has come by ``moment`` are pending."""
        if moment < self._next_due:
            return
        for i, step in enumerate(self.steps):
            if step.state in _DATED and step.due <= moment and is_open(step, self.stage):
                self.steps[i] = replace(step, state=PENDING)
        self._enter(self.stage)

    def strike(self, keep: Collection[int] = ()) -> dict[int, QueueEntry]:
        """Cancel the open steps of the current stage, except those in ``keep``; the places to be removed."""
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
        """The change, with the job at its next revision."""
        job = self.job
        job = replace(
            job,
            rev=job.rev + 1,
            state=self.resting_state(),
            updated_at=self.now,
            finished_at=self.finished_at,
            error=self.error,
            steps=tuple(self.steps),
            events=(*job.events, *self._events)[-MAX_EVENTS:],
            data=merge(job.data, *self._data) if self._data else job.data,
        )
        return Change(
            job=job,
            take=tuple(self.take.values()),
            release=tuple(self.release.values()),
            hold=tuple(self.hold.values()),
            drop=tuple(self.drop.values()),
            put=tuple(self.put.values()),
            check_at=self._check_at(job),
            key=key,
            results=tuple(self.results.items()),
            not_applied=tuple(not_applied),
        )

    def _check_at(self, job: Job) -> float | None:
        """When maintenance has to check the job, if ever."""
        if job.state.ended:
            return (job.finished_at or 0.0) + job.result_ttl
        times = [] if job.expires_at is None else [job.expires_at]
        if self._next_due < inf:
            times += [s.due for s in self.steps if s.state in _DATED and is_open(s, self.stage)]
        if job.cancel_requested_at is not None:
            times.append(self.now + CANCEL_CHECK)
        if job.state is not SCHEDULED and (index := _gathering_step(self.steps, self.stage)) is not None:
            age = self.now - self.steps[index].due
            times.append(self.now + min(max(GATHER_CHECK, age / 2), GATHER_CHECK_MOST))
        return min(times, default=None)

    def _enter(self, stage: int) -> None:
        """Make ``stage`` the current one: count its open steps."""
        self.stage = stage
        self._counts = {}
        self._next_due = inf
        for step in self.steps:
            if is_open(step, stage):
                self._count(step)

    def _count(self, step: Step) -> None:
        self._counts[step.state] = self._counts.get(step.state, 0) + 1
        if step.state in _DATED and step.due < self._next_due:
            self._next_due = step.due


def _first_open_stage(steps: Sequence[Step]) -> int:
    for step in steps:
        if step.state is not DONE:
            return step.stage
    return steps[-1].stage


def _gathering_step(steps: Sequence[Step], stage: int) -> int | None:
    return next((i for i, s in enumerate(steps) if s.gather is not None and is_open(s, stage)), None)


def _result_size(step: Step) -> int:
    return len(step.result or b"") if step.result_size is None else step.result_size


def _entry_of(job: Job, index: int, step: Step) -> QueueEntry:
    return QueueEntry(index, step.function, job.priority, step.due)
