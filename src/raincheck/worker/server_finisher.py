"""Sends the outcomes of attempts to the server. Those that come while a request is on its way go together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from raincheck.core.clock import chance, now
from raincheck.core.errors import NotFound, RaincheckError, Unreachable
from raincheck.core.limits import Limits
from raincheck.core.model import MAX_SECONDS, FailureType, Job, Problem, RetryOptions, State
from raincheck.core.outcomes import size_problem
from raincheck.core.retry import Backoff
from raincheck.core.triggers import Failed, Succeeded
from raincheck.engine.remote.protocol import Ending, Finished, FinishOutcome, Registered
from raincheck.worker.attempt import InFlight, RunningAttempt
from raincheck.worker.attempt_log import AttemptLog
from raincheck.worker.outcome import Outcome
from raincheck.worker.server_connection import ServerClaim, ServerConnection

logger = logging.getLogger("raincheck.worker")

ROOM = 1024
"""Bytes of a request that are not outcomes."""

NAME_LIMIT, NAMES_LIMIT = 200, 50
"""Characters of the name of an exception class, and the number of its base classes."""

STATES: dict[FinishOutcome, State] = {
    "done": State.DONE,
    "retried": State.RETRYING,
    "failed": State.FAILED,
    "timed-out": State.FAILED,
    "cancelled": State.CANCELLED,
}
"""How the log shows a step after each outcome."""


class Entry(Struct, frozen=True, eq=False):
    """An outcome, and what is sent of it."""

    outcome: Outcome
    body: bytes


def claim_of(attempt: RunningAttempt) -> ServerClaim:
    """The claim of an attempt of a server."""
    assert isinstance(attempt.claim, ServerClaim)  # noqa: S101 - the dispatcher makes no other
    return attempt.claim


class Finisher:
    """Sends and logs outcomes, and removes an attempt from ``in_flight`` once its outcome has arrived or is
    discarded.

    While the server is away it keeps trying, as long as the worker is registered: the leases are extended
    as soon as the server is back, and what another worker has taken over meanwhile is fenced off.
    """

    def __init__(self, connection: ServerConnection, in_flight: InFlight, log: AttemptLog) -> None:
        self._connection = connection
        self._in_flight = in_flight
        self._log = log
        self._waiting: deque[Outcome] = deque()
        self._sending: asyncio.Task[None] | None = None

    def complete(self, outcomes: Iterable[Outcome]) -> None:
        """Send these, after those that wait."""
        self._waiting.extend(outcomes)
        if self._waiting and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Send no more; leases whose outcome has not arrived run out."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        while self._waiting:
            worker = self._connection.worker
            if worker is None:
                self._discard(self._waiting)
                self._waiting.clear()
            elif batch := self._next_batch(worker):
                try:
                    await self._finish(worker, batch)
                except Exception:  # the outcomes after them are sent
                    logger.exception("%d outcomes cannot be sent, their leases run out", len(batch))
                    for entry in batch:
                        self._in_flight.remove(entry.outcome.attempt)

    def _next_batch(self, worker: Registered) -> list[Entry]:
        """The outcomes that go together: as many as fit into one request."""
        batch: list[Entry] = []
        room = worker.limits.body - ROOM
        while self._waiting and len(batch) < worker.limits.attempts:
            outcome = self._waiting[0]
            if claim_of(outcome.attempt).worker is not worker:
                self._discard([self._waiting.popleft()])
                continue
            body = _encode(_entry(outcome, worker))
            room -= len(body) + 1
            if room < 0 and batch:
                break
            batch.append(Entry(self._waiting.popleft(), body))
        return batch

    async def _finish(self, worker: Registered, batch: Sequence[Entry]) -> None:
        """Send these until the server has answered, or does not know the worker any more."""
        backoff = Backoff()
        while self._connection.worker is worker:
            try:
                await self._send_progress(worker, batch)
                body = {"attempts": [Raw(entry.body) for entry in batch]}
                reply = await self._connection.call(worker, "finish", body)
                self._note(batch, reply.read(Finished).attempts, is_repeated=backoff.is_on)
            except NotFound:
                break
            except RaincheckError as error:
                if _is_final(error):
                    await self._finish_apart(worker, batch, error)
                    return
                if not backoff.is_on:
                    logger.warning("%d outcomes wait for the server: %s", len(batch), error)
                await asyncio.sleep(max(backoff.next(chance()), error.pause))
            else:
                return
        self._discard(entry.outcome for entry in batch)

    async def _send_progress(self, worker: Registered, batch: Sequence[Entry]) -> None:
        """The last progress of attempts, reported just before they ended: their outcomes do not carry it."""
        running = [
            {"id": claim_of(attempt).id, "progress": Raw(attempt.progress)}
            for attempt in (entry.outcome.attempt for entry in batch)
            if attempt.progress is not None and attempt.progress is not attempt.sent
        ]
        if running:
            body = {"attempts": running, "state": self._connection.state}
            await self._connection.call(worker, "extend", body)

    async def _finish_apart(self, worker: Registered, batch: Sequence[Entry], error: RaincheckError) -> None:
        """The server refuses the request as a whole: send each outcome on its own, so that others arrive."""
        if len(batch) > 1:
            for entry in batch:
                await self._finish(worker, [entry])
        else:
            title = "The outcome cannot be sent"
            self._note_refused(batch[0].outcome, error.problem or Problem(title=title, detail=str(error)))

    def _note(self, batch: Sequence[Entry], endings: Sequence[Ending], *, is_repeated: bool) -> None:
        """Log what became of outcomes, and remove their attempts."""
        ended: list[tuple[Job, list[Outcome]]] = []
        for entry, ending in zip(batch, endings, strict=True):
            outcome = entry.outcome
            if ending.outcome == "refused":
                self._note_refused(outcome, ending.problem)
            elif ending.outcome != "lost":
                ended.append((_job_after(outcome, ending.outcome), [outcome]))
                self._in_flight.remove(outcome.attempt)
            elif is_repeated:
                logger.info("%s: its outcome has arrived before, or its lease was lost", outcome.attempt)
                self._in_flight.remove(outcome.attempt)
            else:
                self._discard([outcome])
        self._log.ended(ended)

    def _note_refused(self, outcome: Outcome, problem: Problem | None) -> None:
        """A result that the server does not take is an error; an error that it does not take is left."""
        attempt = outcome.attempt
        if isinstance(outcome.trigger, Succeeded) and problem is not None:
            self._waiting.append(Outcome(attempt, Failed(attempt.attempt, problem, fatal=True)))
        else:
            why = "" if problem is None else f": {problem.detail or problem.title}"
            logger.error("%s: the server refuses its outcome%s", attempt, why)
            self._in_flight.remove(attempt)

    def _discard(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self._log.discarded(outcome, "its lease was lost")
            self._in_flight.remove(outcome.attempt)


def _entry(outcome: Outcome, worker: Registered) -> dict[str, Any]:
    """An outcome as the server takes it: a result over its limit is an error."""
    trigger, entry = outcome.trigger, {"id": claim_of(outcome.attempt).id}
    if isinstance(trigger, Succeeded):
        limits = Limits(result=worker.limits.result)
        problem = size_problem(outcome.attempt.function.name, trigger.result, trigger.data, limits)
        if problem is not None:
            return entry | {"error": _error(Failed(trigger.attempt, problem, fatal=True))}
        data = {} if trigger.data is None else {"data": Raw(trigger.data)}
        return entry | {"result": Raw(trigger.result)} | data
    return entry | ({"error": _error(trigger)} if isinstance(trigger, Failed) else {"stopped": True})


def _error(failed: Failed) -> dict[str, Any]:
    names = [name[:NAME_LIMIT] for name in failed.names[:NAMES_LIMIT]]
    error: dict[str, Any] = {
        "type": names[0] if names else failed.error.name[:NAME_LIMIT],
        "message": failed.error.detail,
        "types": names,
        "traceback": failed.traceback,
        "retryable": not failed.fatal,
    }
    if failed.retry_after is not None:
        error["retry_after"] = min(max(0.0, failed.retry_after), MAX_SECONDS)
    return error


def _job_after(outcome: Outcome, ending: FinishOutcome) -> Job:
    """The job of an attempt with its step as it is now, for the log; the server knows its retry options."""
    job, retry = outcome.attempt.claim.job, outcome.attempt.function.retry
    state, error = STATES[ending], _error_after(outcome, ending)
    if ending == "timed-out" and job.steps[0].retry_count + 1 < retry.retry_limit:
        state = State.RETRYING  # the server does not say; the step may have other options
    step = replace(job.steps[0], state=state, error=error, finished_at=now(), retry=RetryOptions())
    return replace(job, steps=(step,))


def _error_after(outcome: Outcome, ending: FinishOutcome) -> Problem | None:
    """The error of a step, as far as the worker knows it."""
    if ending in ("done", "cancelled"):
        return None
    if ending == "timed-out":
        return Problem(type=FailureType.TIMEOUT, title="It took too long")
    if isinstance(outcome.trigger, Failed):
        return outcome.trigger.error
    return Problem(title="Its result was not stored", detail="the error of the job says why")


def _is_final(error: RaincheckError) -> bool:
    """Whether the same request would fail again: neither a new token nor a pause can change that."""
    status = error.status if isinstance(error, Unreachable) else getattr(error.problem, "status", None)
    return status is not None and 400 <= status < 500 and status not in (401, 403, 404, 408, 429)


_encode = msgspec.json.Encoder().encode
