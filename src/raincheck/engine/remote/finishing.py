"""The ends of attempts of workers over HTTP: each is judged, and those of one job make one change."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from raincheck.core import lifecycle, outcomes
from raincheck.core.clock import chance
from raincheck.core.codec import MAX_DEPTH, too_deep
from raincheck.core.errors import Fault, IllegalTransition, InvalidInput, StoreUnavailable
from raincheck.core.model import Change, ErrorDetail, FailureType, FunctionInfo, Problem, State, Step
from raincheck.core.outcomes import Raised, cut_message
from raincheck.core.text import cut_text
from raincheck.core.triggers import Failed, Stopped, Trigger
from raincheck.engine.engine import Engine
from raincheck.engine.jobs import MAX_TRIES
from raincheck.engine.remote.claims import give_back
from raincheck.engine.remote.leases import Absent, ActiveLease, find_leases
from raincheck.engine.remote.protocol import (
    Ending,
    FinishedAttempt,
    FinishOutcome,
    ReportedError,
    decode_finished,
    parse_attempt_id,
)
from raincheck.engine.remote.registration import Caller
from raincheck.functions.signature import fault_of
from raincheck.store.base import Held

logger = logging.getLogger("raincheck.remote")

Endings = dict[int, Ending]
"""What became of attempts, by their position in the request."""


class Entry(Struct, frozen=True, eq=False):
    """One attempt of a request to finish."""

    position: int
    finished: FinishedAttempt
    held: Held


class Refused(Exception):
    """An entry is wrong; nothing was changed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


async def finish(engine: Engine, caller: Caller, attempts: Sequence[Raw]) -> list[Ending]:
    """End attempts, each a `FinishedAttempt` as JSON; what became of each, in this order.

    An entry that is wrong is refused and changes nothing. Raises `StoreError` if it is not known what became
    of the entries: the same request can be repeated.
    """
    entries: list[Entry] = []
    endings: Endings = {}
    for position, body in enumerate(attempts):
        try:
            finished = _decoded(bytes(body), position)
        except InvalidInput as error:
            endings[position] = Ending(id=_id_in(body), outcome="refused", problem=_invalid(*error.faults))
        else:
            entries.append(Entry(position, finished, parse_attempt_id(finished.id, "")))
    endings |= await settle(engine, caller, entries)
    return [endings[position] for position in range(len(attempts))]


async def settle(engine: Engine, caller: Caller, entries: Sequence[Entry]) -> Endings:
    """Write how attempts ended. If other processes change a job meanwhile, it is read again."""
    endings: Endings = {}
    for _ in range(MAX_TRIES):
        left = [each for each in entries if each.position not in endings]
        if not left:
            return endings
        endings |= await _settle_once(engine, caller, left)
    raise StoreUnavailable("other processes keep changing the jobs of these attempts: try again")


def _decoded(body: bytes, position: int) -> FinishedAttempt:
    """An entry. Raises `InvalidInput`; its pointers begin with the position in the request."""
    at = f"/attempts/{position}"
    try:
        finished = decode_finished(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(fault_of(error, at)) from None
    has_result = finished.result is not msgspec.UNSET
    if has_result + (finished.error is not None) + finished.stopped != 1:
        raise InvalidInput(Fault("send one of result, error and stopped: true", at))
    if finished.data is not None and not has_result:
        raise InvalidInput(Fault("only an attempt with a result changes data", f"{at}/data"))
    if too_deep(body, MAX_DEPTH + 1):
        raise InvalidInput(Fault(f"nested deeper than {MAX_DEPTH} levels", at))
    parse_attempt_id(finished.id, f"{at}/id")
    return finished


def _id_in(body: Raw) -> str:
    """The id of an entry that is wrong; empty if it has none."""
    try:
        text = msgspec.json.decode(body, type=dict[str, Raw])["id"]
        return msgspec.json.decode(text, type=str)[:200]
    except (KeyError, msgspec.ValidationError):
        return ""


def _invalid(*faults: Fault) -> Problem:
    errors = tuple(ErrorDetail(*fault) for fault in faults)
    detail = "this entry changed nothing: fix the fields listed in `errors`"
    return Problem(type="validation", title="Invalid input", status=422, detail=detail, errors=errors)


async def _settle_once(engine: Engine, caller: Caller, entries: Sequence[Entry]) -> Endings:
    """One try to write: entries whose job another process changed meanwhile are not in the answer."""
    store, now = engine.store, engine.store.now()
    endings: Endings = {}
    judged: dict[str, tuple[ActiveLease, list[tuple[Entry, Trigger]]]] = {}
    found = await find_leases(store, caller.worker.id, [each.held for each in entries])
    for entry, lease in zip(entries, found, strict=True):
        try:
            if isinstance(lease, ActiveLease):
                trigger = _judge(entry.finished, lease, caller, engine, now)
                judged.setdefault(lease.job.id, (lease, []))[1].append((entry, trigger))
            else:
                endings[entry.position] = Ending(id=entry.finished.id, outcome=_absent(lease))
        except Refused as error:
            problem = error.problem
            endings[entry.position] = Ending(id=entry.finished.id, outcome="refused", problem=problem)
    changes: list[tuple[Change, list[Entry]]] = []
    for lease, ended in judged.values():
        try:
            change = lifecycle.advance(lease.job, [trigger for _, trigger in ended], now)
        except IllegalTransition as error:
            logger.error("job %s: %s; its steps are given back", lease.job.id, error)
            await give_back(store, [entry.held for entry, _ in ended])
            endings |= {e.position: Ending(id=e.finished.id, outcome="lost") for e, _ in ended}
        else:
            left_out = set(change.not_applied)
            changes.append((change, [e for i, (e, _) in enumerate(ended) if i not in left_out]))
    results = await store.commit([change for change, _ in changes]) if changes else []
    for (change, applied), result in zip(changes, results, strict=True):
        if result is None:
            for entry in applied:
                outcome = _outcome(change.job.steps[entry.held.step])
                endings[entry.position] = Ending(id=entry.finished.id, outcome=outcome)
    return endings


def _absent(why: Absent) -> FinishOutcome:
    """The outcome for a lease that is not in force. Raises `Refused` for one that never was this worker's."""
    if why == "lost":
        return "lost"
    if why == "foreign":
        detail = "this is the attempt of another worker: use the ids that your own claims gave"
        raise Refused(Problem(type="not-allowed", title="Not allowed", status=403, detail=detail))
    raise Refused(Problem(type="not-found", title="Not found", status=404, detail="there is no such job"))


def _judge(
    finished: FinishedAttempt, lease: ActiveLease, caller: Caller, engine: Engine, now: float
) -> Trigger:
    """The trigger for how an attempt ended, by the rules for all workers. Raises `Refused`."""
    name = lease.step.function
    function, attempt = caller.function(name), lifecycle.attempt_of(lease.lease)
    if not caller.may_run(name):
        detail = f"the token does not allow a worker to run {name}"
        raise Refused(Problem(type="not-allowed", title="Not allowed", status=403, detail=detail))
    if lease.job.cancel_requested_at is not None:
        return Stopped(attempt)
    timeout = lease.timeout(function.timeout)
    if timeout is not None and now - lease.lease.since > timeout:
        traceback = "" if finished.error is None else cut_text(finished.error.traceback)
        return outcomes.timed_out(attempt, name, timeout, function.retry, traceback, chance())
    if finished.error is not None:
        return _failed(finished.error, lease, function)
    if finished.result is msgspec.UNSET:
        raise Refused(
            _invalid(
                Fault(
                    "the job is not being cancelled and the attempt has time left: send a result or an "
                    "error, or release it to let it run elsewhere",
                    "/stopped",
                )
            )
        )
    result = bytes(finished.result)
    data = msgspec.json.encode(finished.data) if finished.data else None
    if problem := outcomes.size_problem(name, result, data, engine.limits):
        raise Refused(problem)
    return outcomes.succeeded(attempt, name, result, data, engine.limits)


def _failed(error: ReportedError, lease: ActiveLease, function: FunctionInfo) -> Failed:
    raised = Raised(
        tuple(dict.fromkeys((error.type, *error.types))),
        cut_message(error.message),
        cut_text(error.traceback),
        not error.retryable,
        error.retry_after,
    )
    return outcomes.failed(
        lifecycle.attempt_of(lease.lease), lease.step.function, raised, function.retry, chance()
    )


def _outcome(step: Step) -> FinishOutcome:
    """What became of an attempt, by its step after the change."""
    if step.state is State.DONE:
        return "done"
    if step.state is State.CANCELLED:
        return "cancelled"
    if step.error is not None and step.error.name == FailureType.TIMEOUT:
        return "timed-out"
    return "failed" if step.state is State.FAILED else "retried"
