"""One job in a world of its own: its places and leases moved as a store would move them.

Every change is checked as it is applied, so whatever a test does here also tests the lifecycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

from raincheck.core import lifecycle
from raincheck.core.model import (
    Attempt,
    Change,
    Event,
    Gather,
    Job,
    Lease,
    Problem,
    QueueEntry,
    Release,
    RetryOptions,
    State,
    Step,
    Stored,
)
from raincheck.core.stages import current_stage, gathering_step
from raincheck.core.triggers import (
    Cancel,
    Check,
    Failed,
    Gathered,
    Lost,
    Opened,
    Retry,
    Stopped,
    Succeeded,
    Trigger,
)

NOW = 1000.0
LEASE = 15.0
OPTIONS = RetryOptions(retry_limit=2, delay=5.0, jitter=0.0, lost_limit=1)
ERROR = Problem(type="function-failed", title="it failed", exception="ValueError")

Shape = Sequence[str | Sequence[str]]


class Action(NamedTuple):
    """Something that can happen to the job now, by name, and to which step."""

    name: str
    step: int | None = None


class Transition(NamedTuple):
    """What was seen to happen: the state before, the trigger, and the state at rest after it."""

    before: State
    trigger: str
    after: State


def draft(
    shape: Shape,
    *,
    options: RetryOptions | None = OPTIONS,
    scheduled_at: float | None = None,
    expires_at: float | None = None,
    result_ttl: float = 60.0,
    priority: int = 0,
    data: bytes = b"{}",
    gather: Gather | None = None,
) -> Job:
    """A job of functions by name; a list among them is a parallel stage. ``gather`` comes before all."""
    first = () if gather is None else (Step("group:g", 0, gather=gather),)
    steps = tuple(
        Step(name, stage, retry=options)
        for stage, entry in enumerate(shape, start=len(first))
        for name in ([entry] if isinstance(entry, str) else entry)
    )
    return Job(
        "id",
        "test",
        (*first, *steps),
        data=data,
        priority=priority,
        scheduled_at=scheduled_at,
        expires_at=expires_at,
        result_ttl=result_ttl,
    )


class World:
    """A job, its places, its leases, and a clock that moves when it is told to."""

    def __init__(self, job: Job) -> None:
        self.now = NOW
        self.queue: dict[int, QueueEntry] = {}
        self.leases: dict[int, Lease] = {}
        self.claimed: dict[int, QueueEntry] = {}
        self.tokens = 0
        self.seen: list[Transition] = []
        self.change = lifecycle.submit(job, self.now)
        self.job = self.change.job
        for place in self.change.put:
            self._put(place)
        self._check()

    def copy(self) -> World:
        """Another such world."""
        twin = copy(self)
        twin.queue, twin.leases, twin.claimed = dict(self.queue), dict(self.leases), dict(self.claimed)
        twin.seen = []
        return twin

    @property
    def state(self) -> State:
        """The state as it is shown."""
        return Stored(self.job, tuple(self.leases.values())).state

    @property
    def states(self) -> list[str]:
        """The states of the steps, at rest."""
        return [str(step.state) for step in self.job.steps]

    @property
    def events(self) -> list[Event]:
        """What is remembered of the job's life."""
        return list(self.job.events)

    @property
    def stored(self) -> Stored:
        """The job as a store gives it."""
        return Stored(self.job, tuple(self.leases.values()))

    # What workers do.

    def claim(self, step: int = 0) -> Attempt:
        """A worker leases a step; it must be in the queue, and due."""
        before, place = self.state, self.queue.pop(step)
        assert place.due <= self.now
        self.tokens += 1
        self.leases[step] = Lease(step, self.tokens, "worker", self.now, self.now + LEASE)
        self.claimed[step] = place
        self.seen.append(Transition(before, "claim", self.state))
        return self.attempt(step)

    def give_back(self, step: int = 0) -> None:
        """Its worker gives it back, unrun."""
        del self.leases[step]
        self._put(self.claimed.pop(step))
        self.seen.append(Transition(State.DOING, "give back", self.job.state))

    def attempt(self, step: int) -> Attempt:
        """The attempt that a lease stands for."""
        return lifecycle.attempt_of(self.leases[step])

    def succeed(self, step: int = 0, result: bytes = b"null", data: bytes | None = None) -> Change:
        """The attempt returns."""
        return self.act(Succeeded(self._held(step), result, data))

    def exceed(self, step: int = 0) -> Change:
        """The attempt returns, and the results of the job are too large with that."""
        return self.act(Succeeded(self._held(step), b"null", None, 0))

    def fail(
        self,
        step: int = 0,
        *,
        names: tuple[str, ...] = ("ValueError", "Exception"),
        fatal: bool = False,
        retry_after: float | None = None,
        chance: float = 0.0,
    ) -> Change:
        """The attempt raises."""
        return self.act(
            Failed(self._held(step), ERROR, names, fatal=fatal, retry_after=retry_after, chance=chance)
        )

    def lose(self, step: int = 0) -> Change:
        """The worker dies; its lease runs out."""
        attempt = self._held(step)
        self.now = max(self.now, self.leases[step].until)
        return self.act(Lost(attempt))

    def stop(self, step: int = 0) -> Change:
        """The worker stops the attempt, as it was told."""
        return self.act(Stopped(self._held(step)))

    # What becomes of a group.

    def open(self) -> Change:
        """The jobs of the group are there."""
        return self.act(Opened())

    def gather(self, result: bytes | None = b"[1,2]", failed: tuple[int, ...] = ()) -> Change:
        """They have ended."""
        return self.act(Gathered(result, failed))

    # What callers and upkeep do.

    def cancel(self) -> Change:
        """Somebody cancels the job."""
        return self.act(Cancel(tuple(self.leases.values())))

    def ring(self) -> Change:
        """The alarm goes off, as soon as it may."""
        assert self.change.check_at is not None
        self.now = max(self.now, self.change.check_at)
        return self.act(Check(tuple(self.leases.values())))

    def retry(self) -> Change:
        """Somebody retries the job."""
        return self.act(Retry())

    def act(self, trigger: Trigger) -> Change:
        """Let the trigger change the job."""
        before = self.state
        change = lifecycle.advance(self.job, [trigger], self.now)
        self._apply(change)
        self.seen.append(Transition(before, type(trigger).__name__.lower(), self.job.state))
        return change

    def act_all(self, triggers: Sequence[Trigger]) -> Change:
        """Let several triggers make one change."""
        change = lifecycle.advance(self.job, triggers, self.now)
        self._apply(change, at_most=2 * len(triggers))
        return change

    # All that can happen, for walks through it.

    def actions(self) -> list[Action]:
        """What can happen now."""
        found = []
        if (index := gathering_step(self.job)) is not None and self.job.state is not State.SCHEDULED:
            opened = self.job.steps[index].state is State.DOING
            found = [
                Action(name) for name in (("gather", "gather_some", "overflow") if opened else ("open",))
            ]
        found += [Action("claim", i) for i, place in self.queue.items() if place.due <= self.now]
        for i in self.leases:
            found += [
                Action(name, i)
                for name in ("give_back", "succeed", "exceed", "fail", "give_up", "insist", "lose")
            ]
            if self.job.cancel_requested_at is not None:
                found.append(Action("stop", i))
        if not self.job.state.ended:
            found.append(Action("cancel"))
            if self.change.check_at is not None:
                found.append(Action("ring"))
            if any(place.due > self.now for place in self.queue.values()):
                found.append(Action("wait"))
            if (self.job.expires_at or 0.0) > self.now:
                found.append(Action("oversleep"))
        elif self.job.state is not State.DONE:
            found.append(Action("retry"))
        return found

    def do(self, action: Action) -> None:
        """Let it happen."""
        if action.name == "wait":  # until the next place is ready, with no alarm gone off yet
            self.now = min(place.due for place in self.queue.values() if place.due > self.now)
        elif action.name == "gather_some":
            self.gather(b"[1,null]", (1,))
        elif action.name == "overflow":
            self.gather(None)
        elif action.name == "oversleep":  # no upkeep looks at the job before its deadline
            self.now = self.job.expires_at or self.now
        elif action.name == "give_up":
            self.fail(action.step or 0, fatal=True)
        elif action.name == "insist":
            self.fail(action.step or 0, retry_after=0.0)
        elif action.step is None:
            getattr(self, action.name)()
        else:
            getattr(self, action.name)(action.step)

    def _held(self, step: int) -> Attempt:
        if step not in self.leases:
            self.claim(step)
        return self.attempt(step)

    def _put(self, place: QueueEntry) -> None:
        assert place.step not in self.queue
        assert place.step not in self.leases
        self.queue[place.step] = place

    def _apply(self, change: Change, at_most: int = 2) -> None:
        """Move places and leases as the change says, which every guard of it must allow.

        It adds ``at_most`` so many events."""
        assert change.job.rev == self.job.rev + 1
        for release in change.release:
            self._in_force(release)
        for release in change.hold:
            self._in_force(release)
        for place in change.take:
            assert self.queue.pop(place.step) == place
        for release in change.release:
            del self.leases[release.step], self.claimed[release.step]
        for place in change.drop:
            assert (self.queue.pop(place.step, None) or self.claimed.pop(place.step)) == place
            self.leases.pop(place.step, None)
        for place in change.put:
            self._put(place)
        before, self.job, self.change = self.job, change.job, change
        self._check(before, at_most)

    def _in_force(self, release: Release) -> None:
        lease = self.leases[release.step]
        assert lease.token == release.token
        assert not release.expired or lease.until <= self.now

    def _check(self, before: Job | None = None, at_most: int = 2) -> None:
        job, stage = self.job, current_stage(self.job)
        open_ = [i for i, s in enumerate(job.steps) if s.stage == stage and not s.state.ended]
        waiting = {i for i in open_ if job.steps[i].gather is None}
        assert self.queue.keys() | self.leases.keys() == (set() if job.state.ended else waiting)
        assert self.leases.keys() == self.claimed.keys()
        for i, place in (self.queue | self.claimed).items():
            assert place == QueueEntry(i, job.steps[i].function, job.priority, job.steps[i].due)
        assert all(step.state is State.DONE for step in job.steps if step.stage < stage)
        assert job.updated_at == self.now
        assert (job.finished_at is not None) == job.state.ended
        assert State.DOING not in {step.state for step in job.steps if step.gather is None}
        assert job.state is not State.DOING or gathering_step(job) is not None
        numbers = [event.number for event in job.events]
        assert numbers == [*range(numbers[-1] - len(numbers) + 1, numbers[-1] + 1)]
        if before is not None:
            assert 0 <= numbers[-1] - before.events[-1].number <= at_most
