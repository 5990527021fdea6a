"""Attempts that run on workers over HTTP: their leases, progress and log lines, and what has to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec.structs import asdict, replace

from raincheck.core.model import Claim
from raincheck.engine.engine import Engine
from raincheck.engine.remote.finishing import Entry, Finisher
from raincheck.engine.remote.leases import ActiveLease, Named, find_leases
from raincheck.engine.remote.protocol import (
    Extended,
    ExtendRequest,
    FinishedAttempt,
    ReleaseRequest,
    RunningAttempt,
    StoppedAttempt,
    StopReason,
    parse_attempt_id,
    progress_json,
)
from raincheck.engine.remote.registration import Caller, renew
from raincheck.logs import CurrentAttempt
from raincheck.store.base import Held

function_logger = logging.getLogger("raincheck.function")

LOG_LINES = 100
"""Log lines of one request that are written; the others are counted."""

LOG_LINE_BYTES = 8 * 1024
"""Bytes of a log line that are written."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


async def extend(
    engine: Engine, finisher: Finisher, caller: Caller, request: ExtendRequest, *, may_claim: bool
) -> Extended:
    """Extend the leases of the attempts that are named, and say which of them have to stop.

    An attempt that should have stopped before the length of a lease is ended here, and is lost. ``may_claim``
    becomes part of the answer. Raises `InvalidInput` for a text that is not the id of an attempt.
    """
    worker = caller.worker
    named = [parse_attempt_id(each.id, f"/attempts/{i}/id") for i, each in enumerate(request.attempts)]
    found = await find_leases(engine.store, [Named(worker.id, each) for each in named])
    now = engine.store.now()
    reasons: dict[int, StopReason] = {}
    overdue: dict[int, Entry] = {}
    for i, lease in enumerate(found):
        if not isinstance(lease, ActiveLease):
            reasons[i] = "lost"
        elif (stop := _stop(lease, caller, now)) is not None:
            reasons[i], since = stop
            if now - since > worker.lease:
                ended = FinishedAttempt(id=request.attempts[i].id, stopped=True)
                overdue[i] = Entry(caller, ended, named[i])
    await finisher.write([*overdue.values()])
    reasons |= dict.fromkeys(overdue, "lost")
    held = [i for i in range(len(named)) if reasons.get(i) != "lost"]
    revs = await renew(engine, replace(worker, state=request.state), worker.lease, [named[i] for i in held])
    reasons |= {i: "lost" for i, rev in zip(held, revs, strict=True) if rev is None}
    await _report(engine, [(named[i], request.attempts[i]) for i in held])
    _log([(lease, request.attempts[i]) for i in held if isinstance(lease := found[i], ActiveLease)])
    stop_list = [StoppedAttempt(request.attempts[i].id, reasons[i]) for i in sorted(reasons)]
    return Extended(lease=worker.lease, stop=stop_list, claim=may_claim and request.state == "active")


def _stop(lease: ActiveLease, caller: Caller, now: float) -> tuple[StopReason, float] | None:
    """Why an attempt has to stop, and since when; None: it may go on."""
    if (cancelled_at := lease.job.cancel_requested_at) is not None:
        return "cancelled", cancelled_at
    timeout = lease.timeout(caller.function(lease.step.function).timeout)
    if timeout is not None and now - lease.lease.since > timeout:
        return "timeout", lease.lease.since + timeout
    return None


async def _report(engine: Engine, running: Sequence[tuple[Held, RunningAttempt]]) -> None:
    """Store the progress of attempts."""
    store = engine.store
    reports = [store.report(held, progress_json(each.progress)) for held, each in running if each.progress]
    await asyncio.gather(*reports)


def _log(running: Sequence[tuple[ActiveLease, RunningAttempt]]) -> None:
    """Write the log lines of attempts, each line of a message on its own; so many lines at most."""
    room, left_out = LOG_LINES, 0
    for lease, attempt in running:
        fields = asdict(CurrentAttempt.of(Claim(lease.job, lease.lease)))
        for entry in attempt.log:
            lines = entry.message.splitlines() or [""]
            for line in lines[:room]:
                text = line.encode("utf-8", "replace")[:LOG_LINE_BYTES].decode("utf-8", "ignore")
                function_logger.log(LEVELS[entry.level], "%s", text, extra=fields)
            left_out += max(0, len(lines) - room)
            room = max(0, room - len(lines))
    if left_out:
        worker = running[0][0].lease.worker
        extra = {"worker": worker, "count": left_out}
        function_logger.warning("%d more log lines of worker %s left out", left_out, worker, extra=extra)


async def release(engine: Engine, caller: Caller, request: ReleaseRequest) -> None:
    """Return attempts that have not begun to the queue; those that are not the worker's stay as they are.

    Raises `InvalidInput` for a text that is not the id of an attempt.
    """
    named = [parse_attempt_id(each.id, f"/attempts/{i}/id") for i, each in enumerate(request.attempts)]
    found = await find_leases(engine.store, [Named(caller.worker.id, each) for each in named])
    held = [each for each, lease in zip(named, found, strict=True) if isinstance(lease, ActiveLease)]
    if held:
        await engine.store.release(held)
