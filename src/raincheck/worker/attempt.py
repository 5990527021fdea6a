"""An attempt of this worker: the table of those in flight, how one is prepared, and what its end means.

Nothing is run or written here: `prepare` and `judge` make triggers for the lifecycle.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self

from msgspec import Struct

from raincheck.core.clock import chance, monotonic
from raincheck.core.codec import to_json
from raincheck.core.errors import DoNotRetry, InvalidArguments, NotJSON
from raincheck.core.lifecycle import on_claim
from raincheck.core.limits import Limits
from raincheck.core.model import Attempt, Claim, Job, Problem
from raincheck.core.retry import names_of
from raincheck.core.triggers import Failed, Stopped, Succeeded, Trigger
from raincheck.functions.context import Context
from raincheck.functions.registry import Function
from raincheck.store.base import Held
from raincheck.worker.inbox import Inbox

logger = logging.getLogger("raincheck.worker")

DETAIL_LIMIT = 2000
"""Characters of an exception's message that are kept."""


class Reason(StrEnum):
    """Why an attempt is told to stop."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    """Its lease is lost: its result is discarded."""
    GIVEN_BACK = "given back"
    """The worker stops; another one runs the step."""


class RunningAttempt(Struct, eq=False):
    """A step that this worker has claimed, until the outcome of the attempt is written.

    The executor begins, stops and ends it, on the loop. Two methods are called by the thread that runs the
    function: `report` by ``ctx.progress``, and `returned`, so that an attempt that has returned in time is
    not told to stop because the loop was busy and the news of its end waits there behind the timer.
    """

    claim: Claim
    function: Function
    reports: Inbox[RunningAttempt]
    """Where `report` tells that there is something to be sent."""
    token: int
    job: Job
    """The job as this worker has seen it last."""
    previous: bytes = b"null"
    """What ``ctx.previous`` is, as JSON."""
    arguments: tuple[Any, Any] = ((), {})
    context: Context | None = None
    task: asyncio.Task[Any] | None = None
    """What to cancel while the function is awaited."""
    deadline: float | None = None
    timer: asyncio.TimerHandle | None = None
    reason: Reason | None = None
    has_returned: bool = False
    overran: bool = False
    abandoned: bool = False
    ended: bool = False
    progress: bytes | None = None
    is_reported: bool = True

    @classmethod
    def of(
        cls, claim: Claim, function: Function, reports: Inbox[RunningAttempt], previous: bytes = b"null"
    ) -> Self:
        """The attempt that a claim stands for."""
        return cls(claim, function, reports, claim.lease.token, claim.job, previous)

    @property
    def held(self) -> Held:
        """The lease that it stands on."""
        return Held(self.claim.job.id, self.claim.lease.step, self.token)

    @property
    def attempt(self) -> Attempt:
        """The attempt as the lifecycle is told of it."""
        lease = self.claim.lease
        return Attempt(lease.step, lease.token, lease.worker, lease.since, self.progress)

    @property
    def timeout(self) -> float | None:
        """Seconds that it may take."""
        own = self.claim.step.timeout
        return self.function.timeout if own is None else own

    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.reason is not None

    def report(self, progress: bytes) -> None:
        """Note how far it has come (JSON), from any thread: only the latest is sent."""
        self.progress = progress
        if self.is_reported:
            self.is_reported = False
            self.reports.put_from_thread(self)

    def returned(self) -> None:
        """Note that its function has returned or raised, in the thread that ran it."""
        self.has_returned = True
        self.overran = self.deadline is not None and monotonic() > self.deadline

    def __str__(self) -> str:
        return f"job {self.claim.job.id}, {self.function.name}"


class InFlight(Mapping[int, RunningAttempt]):
    """Every attempt of this worker by its token, from its claim until its outcome is written.

    The worker adds, the completer removes; others read. Reading is safe from any thread.
    """

    def __init__(self) -> None:
        self._attempts: dict[int, RunningAttempt] = {}
        self._running: dict[str, dict[int, RunningAttempt]] = {}
        self.abandoned = 0
        """How many threads still run the function of an attempt that was abandoned."""
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __getitem__(self, token: int) -> RunningAttempt:
        return self._attempts[token]

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._attempts))

    def __len__(self) -> int:
        return len(self._attempts)

    def held(self) -> list[RunningAttempt]:
        """The attempts of this moment."""
        return list(self._attempts.copy().values())

    def running(self, job_id: str) -> list[RunningAttempt]:
        """The attempts at a job that have not ended."""
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
        """An attempt has ended; its lease is kept until its outcome is written."""
        attempt.ended = True
        attempts = self._running.get(attempt.job.id)
        if attempts is not None and attempts.pop(attempt.token, None) is not None and not attempts:
            del self._running[attempt.job.id]

    def remove(self, attempt: RunningAttempt) -> None:
        """The outcome of an attempt that has ended is written, or void; its lease is not kept any longer."""
        self._attempts.pop(attempt.token, None)
        if not self._attempts:
            self._is_empty.set()

    def saw(self, job: Job) -> None:
        """A job is at a newer revision: its running attempts are at that from now on."""
        for attempt in self._running.get(job.id, {}).values():
            if attempt.job.rev < job.rev:
                attempt.job = job

    async def emptied(self) -> None:
        """Wait until there is no attempt in flight."""
        await self._is_empty.wait()


class Finished(Struct, frozen=True):
    """How the function of an attempt ended: what it returned or raised."""

    attempt: RunningAttempt
    result: Any
    error: BaseException | None


class Outcome(Struct, frozen=True):
    """What the end of an attempt does to its job."""

    attempt: RunningAttempt
    trigger: Trigger


class Encoded(NamedTuple):
    """A result that is JSON already, as it comes from a child process."""

    result: bytes
    data: bytes | None


class ChildError(Exception):
    """What a function raised in a child process, as plain data: ``names`` of its class and bases."""

    def __init__(
        self,
        names: tuple[str, ...],
        message: str,
        *,
        fatal: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.names = names
        self.fatal = fatal
        self.retry_after = retry_after


def prepare(attempt: RunningAttempt, state: Mapping[str, Any]) -> Trigger | None:
    """Make an attempt's context and decode its arguments. What ends it unrun, or None: run it."""
    claim, function = attempt.claim, attempt.function
    trigger = on_claim(claim.job, claim.lease)
    if trigger is not None:
        return trigger
    signature = function.signature
    if signature.context is not None:
        attempt.context = Context(
            claim.job,
            claim.lease.step,
            attempt.previous,
            report=attempt.report,
            cancelled=attempt.is_stopping,
            state=state,
        )
    try:
        attempt.arguments = signature.bind(claim.step.args, claim.step.kwargs, context=attempt.context)
    except Exception as error:  # noqa: BLE001 - the arguments do not fit, or their class raises
        return failed(attempt, error, fatal=True)
    return None


def judge(finished: Finished, limits: Limits) -> Trigger | None:
    """What the end of an attempt means; None: nothing, its lease is lost or the step is given back.

    Time counts, not the answer: an attempt that took longer than
    its timeout has timed out whatever it returned.
    """
    attempt, result, error = finished.attempt, finished.result, finished.error
    if attempt.reason is Reason.LOST or (attempt.reason is Reason.GIVEN_BACK and error is not None):
        return None
    if attempt.reason is Reason.CANCELLED:
        return Stopped(attempt.attempt)
    if attempt.reason is Reason.TIMEOUT or attempt.overran:
        return _timed_out(attempt)
    if error is not None:
        return failed(attempt, error)
    try:
        made = result if isinstance(result, Encoded) else Encoded(to_json(result), _changed(attempt))
    except NotJSON as wrong:
        named = NotJSON(f"what {attempt.function.name} returned or put into data is {wrong}")
        return failed(attempt, named, fatal=True)
    except Exception as wrong:  # noqa: BLE001 - raised by the class of what was returned
        return failed(attempt, wrong, fatal=True)
    for what, size in (("result", len(made.result)), ("data", len(made.data or b""))):
        if size > limits.result:
            return _too_large(attempt, what, size, limits.result)
    return Succeeded(attempt.attempt, made.result, made.data, limits.results)


def failed(attempt: RunningAttempt, error: BaseException, *, fatal: bool = False) -> Failed:
    """The attempt raised ``error``; ``fatal`` if another one would fail in the same way."""
    names = error.names if isinstance(error, ChildError) else names_of(type(error))
    detail = words_of(error)
    problem = Problem(
        type="function-failed",
        title=f"{attempt.function.name} raised {names[0]}",
        detail=detail,
        exception=names[0],
    )
    logger.warning("%s raised %s: %s", attempt, names[0], detail)
    logger.debug("the traceback of %s", attempt, exc_info=error)
    return Failed(
        attempt.attempt,
        problem,
        names,
        attempt.function.retry,
        fatal or isinstance(error, DoNotRetry | InvalidArguments) or getattr(error, "fatal", False) is True,
        asked_pause(error),
        chance(),
    )


def words_of(error: BaseException) -> str:
    """The message of an exception, fit to be stored, whatever its class makes of that."""
    try:
        said = str(error)
    except Exception as wrong:  # noqa: BLE001 - it is the function's own code
        said = f"it cannot be told: {type(wrong).__name__}"
    return said[:DETAIL_LIMIT].encode("utf-8", "replace").decode("utf-8")


def asked_pause(error: BaseException) -> float | None:
    """The ``retry_after`` of an exception, if that is a number of seconds."""
    try:
        after = float(error.retry_after)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it has none, or one that is something else
        return None
    return None if math.isnan(after) else after


def _changed(attempt: RunningAttempt) -> bytes | None:
    return None if attempt.context is None else attempt.context.changed_data()


def _timed_out(attempt: RunningAttempt) -> Failed:
    if attempt.reason is None and attempt.function.mode == "async":
        logger.warning(
            "%s took longer than its timeout of %g s and blocked the event loop, so that it could not be "
            "stopped: run it with def, or process=True",
            attempt,
            attempt.timeout,
        )
    else:
        logger.warning("%s took longer than its timeout of %g s", attempt, attempt.timeout)
    problem = Problem(
        type="timeout",
        title=f"{attempt.function.name} took too long",
        detail=f"an attempt may take {attempt.timeout:g} s",
        exception="TimeoutError",
    )
    return Failed(attempt.attempt, problem, names_of(TimeoutError), attempt.function.retry, chance=chance())


def _too_large(attempt: RunningAttempt, what: str, size: int, limit: int) -> Failed:
    problem = Problem(
        type="result-too-large",
        title=f"The {what} of {attempt.function.name} is too large",
        detail=f"it has {size} bytes, at most {limit} are kept: store it elsewhere and return where",
    )
    return Failed(attempt.attempt, problem, fatal=True)
