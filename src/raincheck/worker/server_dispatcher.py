"""Gives a worker its attempts from a server, and sends their outcomes to it.

It speaks the protocol of docs/reference/worker-protocol.md. The machine of such a worker needs no access to
the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from msgspec import Raw

from raincheck.core.clock import from_datetime, monotonic, now
from raincheck.core.errors import RaincheckError
from raincheck.core.model import FunctionInfo, Job, Lease, Step, WorkerInfo
from raincheck.engine.remote import protocol
from raincheck.engine.remote.protocol import ClaimedAttempt, Extended, Registered
from raincheck.store.base import NO_LIMITS
from raincheck.store.listeners import call_into
from raincheck.worker.attempt import Inbox, InFlight, Reason, RunningAttempt
from raincheck.worker.attempt_log import AttemptLog
from raincheck.worker.dispatcher import Claimed
from raincheck.worker.outcome import Outcome
from raincheck.worker.server_connection import PATIENCE, ServerClaim, ServerConnection, Token
from raincheck.worker.server_finisher import Finisher, claim_of

logger = logging.getLogger("raincheck.worker")

T = TypeVar("T")

LONGEST_WAIT = 20.0
"""Seconds for which one request waits for a ready step. Proxies cut off idle requests."""

SHORTEST_WAIT = 1.0
"""Seconds. A server that responds sooner, without a step, does not wait, as one that stops: claim slowly."""

REASONS = {"cancelled": Reason.CANCELLED, "timeout": Reason.CANCELLED, "lost": Reason.LOST}
"""Why an attempt has to stop. The server itself knows which one has run out of time."""


class ServerDispatcher:
    """The `raincheck.worker.dispatcher.Dispatcher` of one worker, on the server at ``url``.

    ``token`` is sent with each request. Leases last ``lease`` seconds. A worker that the server does not
    know any more registers again and drops its attempts, which are fenced off.
    """

    def __init__(self, url: str, token: Token, lease: float) -> None:
        self.in_flight = InFlight()
        self.lease = lease
        self._connection = ServerConnection(url, token, min(max(1.0, lease / 3), 5.0))
        self._log = AttemptLog()
        self.attempts = self._log.attempts
        self._finisher = Finisher(self._connection, self.in_flight, self._log)
        self._loop = asyncio.get_running_loop()
        self._registering = asyncio.Lock()
        self._registration: dict[str, Any] = {}
        self._may_claim = asyncio.Event()
        self._stopping: Inbox[tuple[RunningAttempt, Reason]] = Inbox()

    def now(self) -> float:
        """The time of this machine: leases are counted from when a claim arrives."""
        return now()

    async def open(self, info: WorkerInfo) -> None:
        """Register the worker. Tries for some seconds to reach the server. Raises `RaincheckError`."""
        self._registration = {
            "name": info.id,
            "host": info.host,
            "pid": info.pid,
            "version": info.version,
            "capacity": info.concurrency,
            "lease": self.lease,
            "functions": [_function(each) for each in info.functions],
        }
        await self._register(PATIENCE)

    async def _register(self, patience: float = 0.0) -> Registered:
        """The registration; registers the worker if there is none."""
        async with self._registering:
            if (worker := self._connection.worker) is None:
                worker = await self._connection.register(self._registration, patience)
                self.lease = worker.lease
                self._may_claim.set()
                logger.debug("registered as %s", worker.id)
            return worker

    async def claim(
        self, functions: Sequence[str], limit: int, wait: float, limits: Mapping[str, int] = NO_LIMITS
    ) -> Claimed:
        """Claim steps. Raises `RaincheckError`."""
        await self._may_claim.wait()
        worker = self._connection.worker or await self._register()
        wait, names = min(wait, LONGEST_WAIT), frozenset(functions)
        body = {
            "limit": min(limit, worker.limits.attempts),
            "wait": wait,
            "functions": functions,
            "limits": {name: most for name, most in limits.items() if name in names},
        }
        claiming = asyncio.create_task(self._claim(worker, body, wait))
        try:
            claims = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.cancel()
            with suppress(asyncio.CancelledError, RaincheckError):
                await self._release(worker, [claim.id for claim, _ in await claiming])
            raise
        previous = {claim.lease.token: before for claim, before in claims}
        return Claimed([claim for claim, _ in claims], previous)

    async def _claim(
        self, worker: Registered, body: dict[str, Any], wait: float
    ) -> list[tuple[ServerClaim, bytes]]:
        """The claims of a request, each with the previous result."""
        began_at = monotonic()
        reply = await self._connection.call(worker, "claim", body, wait)
        received_at = now()
        attempts = reply.read(protocol.Claimed).attempts
        if not attempts and wait:
            await asyncio.sleep(min(wait, SHORTEST_WAIT) - (monotonic() - began_at))
        return [(_claim(each, worker, received_at), bytes(each.previous)) for each in attempts]

    def extend(self, info: WorkerInfo, attempts: Sequence[RunningAttempt]) -> None:
        """Extend the leases; `stopping` gets what the server says. An idle worker sends nothing: it claims.

        Raises `RaincheckError`.
        """
        if info.state == "stopped":
            self._connection.leave()
            return
        worker = self._connection.worker
        if worker is None:
            call_into(self._loop, self._may_claim.set)  # the next claim registers the worker
        held = [attempt for attempt in attempts if claim_of(attempt).worker is worker]
        self._drop(attempts)
        if worker is None or not (
            held or info.state != self._connection.state or not self._may_claim.is_set()
        ):
            return
        for part in _parts(held, worker.limits.attempts):
            body = {"attempts": [*map(_running, part)], "state": info.state, "running": len(held)}
            reply = self._connection.call_from_thread(worker, "extend", body)
            self._note_answer(reply.read(Extended), part)
        self._connection.state = info.state

    def _drop(self, attempts: Sequence[RunningAttempt]) -> None:
        """Stop the attempts of a registration that the server does not know any more."""
        worker = self._connection.worker
        for attempt in attempts:
            if claim_of(attempt).worker is not worker:
                self._stopping.put_from_thread((attempt, Reason.LOST))

    def _note_answer(self, answer: Extended, attempts: Sequence[RunningAttempt]) -> None:
        """Note which attempts have to stop, and whether the worker may claim; from any thread."""
        by_id = {claim_of(attempt).id: attempt for attempt in attempts}
        for each in answer.stop:
            if (attempt := by_id.get(each.id)) is not None:
                self._stopping.put_from_thread((attempt, REASONS[each.reason]))
        call_into(self._loop, self._may_claim.set if answer.claim else self._may_claim.clear)

    async def stopping(self) -> list[tuple[RunningAttempt, Reason]]:
        """Wait until attempts have to stop; return them, and why."""
        return await self._stopping.take()

    def complete(self, outcomes: Sequence[Outcome]) -> None:
        """Send outcomes."""
        self._finisher.complete(outcomes)

    async def release(self, attempts: Sequence[RunningAttempt]) -> None:
        """Return attempts to the queue, unrun."""
        worker = self._connection.worker
        claims = [claim_of(attempt) for attempt in attempts]
        try:
            if worker is not None:
                await self._release(worker, [claim.id for claim in claims if claim.worker is worker])
        except RaincheckError as error:
            logger.warning("%d steps could not be given back, their leases run out: %s", len(claims), error)
        for attempt in attempts:
            self.in_flight.remove(attempt)

    async def _release(self, worker: Registered, ids: Sequence[str]) -> None:
        for part in _parts(ids, worker.limits.attempts):
            if part:
                await self._connection.call(worker, "release", {"attempts": [{"id": each} for each in part]})

    async def report(self, progress: Sequence[tuple[RunningAttempt, bytes]]) -> None:
        """Send progress, which extends the leases, too."""
        worker = self._connection.worker
        mine = [(attempt, value) for attempt, value in progress if claim_of(attempt).worker is worker]
        if worker is None or not mine:
            return
        try:
            for part in _parts(mine, worker.limits.attempts):
                running = [{"id": claim_of(attempt).id, "progress": Raw(value)} for attempt, value in part]
                body = {"attempts": running, "state": self._connection.state}
                reply = await self._connection.call(worker, "extend", body)
                self._note_answer(reply.read(Extended), [attempt for attempt, _ in part])
                for attempt, value in part:
                    attempt.mark_sent(value)
        except RaincheckError as error:
            logger.debug("the progress of %d attempts was not sent: %s", len(mine), error)

    async def close(self) -> None:
        """Send no more, and close the connections."""
        await self._finisher.close()
        self._log.close()
        await self._connection.close()


def _function(info: FunctionInfo) -> dict[str, Any]:
    """A function as a worker registers it."""
    fields = ("name", "doc", "parameters", "positional", "returns", "timeout", "wait", "mode", "concurrency")
    return {"retry_options": info.retry} | {field: getattr(info, field) for field in fields}


def _claim(attempt: ClaimedAttempt, worker: Registered, received_at: float) -> ServerClaim:
    """The claim of an attempt. Its job has only the step that runs, and what functions can see of the job.

    The clock of the server may differ: the lease is counted from when the response arrived.
    """
    step = Step(
        attempt.function,
        0,
        bytes(attempt.args),
        bytes(attempt.kwargs),
        timeout=attempt.timeout,
        retry_count=attempt.attempt - attempt.lost_count - 1,
        lost_count=attempt.lost_count,
        started_at=from_datetime(attempt.started_at),
        worker=worker.id,
    )
    created_at = from_datetime(attempt.created_at)
    job = Job(attempt.job, attempt.name, (step,), data=bytes(attempt.data), created_at=created_at)
    seconds = (attempt.lease_until - attempt.started_at).total_seconds()
    lease = Lease(0, attempt.token, worker.id, received_at, received_at + seconds)
    return ServerClaim(job, lease, attempt.id, worker)


def _running(attempt: RunningAttempt) -> dict[str, Any]:
    """An attempt whose lease is extended, with progress that the event loop has not sent yet."""
    running: dict[str, Any] = {"id": claim_of(attempt).id}
    if attempt.progress is not None and not attempt.is_reported:
        running["progress"] = Raw(attempt.progress)
    return running


def _parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in parts of at most ``most``; one empty part if there are none."""
    for begin in range(0, max(1, len(items)), most):
        yield items[begin : begin + most]
