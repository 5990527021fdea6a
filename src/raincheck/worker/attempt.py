"""An attempt of this worker, the table of those in flight, and the inbox that hands attempts on.

Nothing here calls a function or the store.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from threading import get_ident
from typing import Any, Generic, NamedTuple, Self, TypeVar

from msgspec import Struct

from raincheck.core.clock import monotonic
from raincheck.core.model import Attempt, Claim, Job
from raincheck.functions.context import Context
from raincheck.functions.registry import Function
from raincheck.logs import CurrentAttempt
from raincheck.store.base import Held
from raincheck.store.listeners import call_into
from raincheck.worker.injector import Around
from raincheck.worker.tracebacks import format_stack

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue that its event loop reads in batches, and that other threads may fill.

    A burst of items costs one wake-up, from any thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._arrived = asyncio.Event()
        self._is_woken = False

    def put(self, item: T) -> None:
        """Add an item, on the loop."""
        self._items.append(item)
        self._arrived.set()

    def put_from_thread(self, item: T) -> None:
        """Add an item, from any thread."""
        self._items.append(item)
        if not self._is_woken:  # one wake-up too many does no harm, so this needs no lock
            self._is_woken = True
            call_into(self._loop, self._arrived.set)

    async def take(self) -> list[T]:
        """Remove all items and return them in order; waits for the first."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        self._is_woken = False  # before the items are removed: later items wake the reader again
        return [self._items.popleft() for _ in range(len(self._items))]


class Reason(StrEnum):
    """Why an attempt has to stop."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    """Its lease is lost: its result is discarded."""
    GIVEN_BACK = "given back"
    """The worker stops; another one runs the step."""


class ThreadCall(NamedTuple):
    """What a thread has to call, in a context, and where it puts the result or the exception."""

    call: Callable[[], Any]
    context: contextvars.Context
    returned: asyncio.Future[tuple[Any, BaseException | None]]


class RunningAttempt(Struct, eq=False):
    """A step that this worker has claimed, until the outcome of the attempt is written.

    Its life, and the method that begins each part of it:

    1. claimed (`of`): it waits for its turn.
    2. running (`begin`; `set_deadline` if it has a timeout): its function is being called.
    3. returned (`mark_returned`): its function has returned or raised.
    4. ended (`end`): its slot is free. Its lease is extended until its outcome is written.

    `stop` may come at any time. An attempt that was waiting has then returned. One that is running and does
    not return in time is abandoned (`abandon`): it ends while its function goes on.

    All fields are written by these methods, on the event loop, with three exceptions: `enter_thread`,
    `mark_returned` and `report` are called by the thread that runs the function. So an attempt that has
    returned in time does not time out if the loop was busy and sees the timer first.
    """

    claim: Claim
    function: Function
    reports: Inbox[RunningAttempt]
    """Where `report` puts the attempt if it has progress to be sent."""
    token: int
    job: Job
    """The newest revision of the job that this worker knows."""
    previous: bytes = b"null"
    """`Context.previous`, as JSON."""
    arguments: tuple[Any, Any] = ((), {})
    context: Context | None = None
    around: Around | None = None
    """What runs around it; None: nothing."""
    thread_call: ThreadCall | None = None
    """What a thread has to call, if it is not only the function."""
    task: asyncio.Task[Any] | None = None
    """The task to cancel, while the function is awaited."""
    thread: int | None = None
    """The thread that calls the function, if it is not the loop's."""
    stack: str = ""
    """Where the function was when it timed out, if a thread called it."""
    deadline: float | None = None
    timer: asyncio.TimerHandle | None = None
    reason: Reason | None = None
    """Why it has to stop; None: it does not."""
    has_returned: bool = False
    is_late: bool = False
    """Whether it returned after its deadline."""
    is_abandoned: bool = False
    has_ended: bool = False
    progress: bytes | None = None
    is_reported: bool = True

    @classmethod
    def of(
        cls, claim: Claim, function: Function, reports: Inbox[RunningAttempt], previous: bytes = b"null"
    ) -> Self:
        """The attempt for a claim."""
        return cls(claim, function, reports, claim.lease.token, claim.job, previous)

    @property
    def held(self) -> Held:
        """Its lease, for the store."""
        return Held(self.claim.job.id, self.claim.lease.step, self.token)

    @property
    def attempt(self) -> Attempt:
        """The attempt, for the lifecycle."""
        lease = self.claim.lease
        return Attempt(lease.step, lease.token, lease.worker, lease.since, self.progress)

    @property
    def current(self) -> CurrentAttempt:
        """The attempt, for the log."""
        return CurrentAttempt.of(self.claim)

    @property
    def timeout(self) -> float | None:
        """Seconds that it may take."""
        own = self.claim.step.timeout
        return self.function.timeout if own is None else own

    def begin(self, task: asyncio.Task[Any] | None) -> None:
        """Its function is called, in ``task``."""
        self.task = task

    def enter_thread(self) -> None:
        """Its function is called, in this thread."""
        self.thread = get_ident()

    def wait_for_thread(self, call: ThreadCall) -> None:
        """A thread has to call this, which cannot be cancelled."""
        self.task = None
        self.thread_call = call

    def leave_thread(self, task: asyncio.Task[Any] | None) -> None:
        """The thread has returned, and ``task`` goes on."""
        self.task = task
        self.thread = None
        self.thread_call = None

    def set_deadline(self, seconds: float, timer: asyncio.TimerHandle) -> None:
        """It has to return within ``seconds``; ``timer`` stops it then."""
        self.deadline = monotonic() + seconds
        self.timer = timer

    def mark_returned(self) -> None:
        """Its function has returned or raised, in the thread that calls this; later calls change nothing."""
        if not self.has_returned:
            self.has_returned = True
            self.is_late = self.deadline is not None and monotonic() > self.deadline

    def stop(self, reason: Reason) -> bool:
        """Stop it. False: it has returned, or something else has stopped it before."""
        if self.has_ended or self.has_returned or self.reason is not None:
            return False
        if reason is Reason.TIMEOUT:
            self.stack = self._read_stack()  # before the function can learn that it has to stop
        self.reason = reason
        if self.task is not None:
            self.task.cancel()
        elif self.function.mode != "thread":  # it waits; a thread may have begun already
            self.mark_returned()
        return True

    def _read_stack(self) -> str:
        """Where its thread is in its function; empty without a thread, or if the function has returned."""
        if self.thread is None:
            return ""
        stack = format_stack(self.thread)
        return "" if self.has_returned else stack  # the thread may have gone on to another attempt

    def abandon(self) -> bool:
        """Its function did not return in time. False: it did."""
        if self.has_ended or self.has_returned:
            return False
        self.is_abandoned = True
        return True

    def end(self) -> None:
        """Its slot is free; later calls change nothing."""
        self.has_ended = True
        if self.timer is not None:
            self.timer.cancel()

    def is_stopping(self) -> bool:
        """Whether it has to stop."""
        return self.reason is not None

    def report(self, progress: bytes) -> None:
        """Note its progress (JSON), from any thread: only the latest is sent."""
        self.progress = progress
        if self.is_reported:
            self.is_reported = False
            self.reports.put_from_thread(self)

    def take_progress(self) -> bytes | None:
        """The progress to send, once; None: it has returned, and its outcome carries the progress."""
        self.is_reported = True  # before it is read: what comes from now on is sent, too
        return None if self.has_returned or self.has_ended else self.progress

    def __str__(self) -> str:
        return f"job {self.claim.job.id}, {self.function.name}"


class InFlight(Mapping[int, RunningAttempt]):
    """Every attempt of this worker by its token, from its claim until its outcome is written.

    The worker adds and ends, the completer removes; others read. Reading is safe from any thread.
    """

    def __init__(self) -> None:
        self._attempts: dict[int, RunningAttempt] = {}
        self._running: dict[str, dict[int, RunningAttempt]] = {}
        self.abandoned = 0
        """How many threads still run the function of an abandoned attempt."""
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __getitem__(self, token: int) -> RunningAttempt:
        return self._attempts[token]

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._attempts))

    def __len__(self) -> int:
        return len(self._attempts)

    def all(self) -> list[RunningAttempt]:
        """The attempts of this moment."""
        return list(self._attempts.copy().values())

    def running(self, job_id: str) -> list[RunningAttempt]:
        """The attempts of a job that have not ended."""
        return list(self._running.get(job_id, {}).copy().values())

    def running_jobs(self, jobs: Mapping[str, Any] | None) -> list[str]:
        """The ids of those of ``jobs`` (None: of all jobs) that have an attempt which has not ended."""
        return list(self._running if jobs is None else self._running.keys() & jobs.keys())

    def add(self, attempt: RunningAttempt) -> None:
        """Add an attempt."""
        if not self._attempts:
            self._is_empty.clear()
        self._attempts[attempt.token] = attempt
        self._running.setdefault(attempt.job.id, {})[attempt.token] = attempt

    def end(self, attempt: RunningAttempt) -> None:
        """End an attempt; its lease is extended until it is removed."""
        attempt.end()
        attempts = self._running.get(attempt.job.id)
        if attempts is not None and attempts.pop(attempt.token, None) is not None and not attempts:
            del self._running[attempt.job.id]

    def remove(self, attempt: RunningAttempt) -> None:
        """Remove an ended attempt whose outcome is written or discarded: its lease is extended no more."""
        self._attempts.pop(attempt.token, None)
        if not self._attempts:
            self._is_empty.set()

    def update(self, job: Job) -> None:
        """Note a newer revision of a job with its attempts that have not ended."""
        for attempt in self._running.get(job.id, {}).values():
            if attempt.job.rev < job.rev:
                attempt.job = job

    async def emptied(self) -> None:
        """Wait until no attempt is in flight."""
        await self._is_empty.wait()
