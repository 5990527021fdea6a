"""The ends of attempts of workers over HTTP: each is judged, and those of one job make one change."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from raincheck.core import lifecycle, outcomes
from raincheck.core.clock import chance
from raincheck.core.codec import MAX_DEPTH, too_deep
from raincheck.core.errors import Fault, IllegalTransition, InvalidInput, StoreError, StoreUnavailable
from raincheck.core.limits import Limits
from raincheck.core.model import (
    Attempt,
    Change,
    ErrorDetail,
    FailureType,
    FunctionInfo,
    Job,
    Problem,
    State,
    Step,
)
from raincheck.core.outcomes import Raised, cut_message
from raincheck.core.text import cut_text
from raincheck.core.triggers import Failed, Stopped, Trigger
from raincheck.engine.engine import Engine
from raincheck.engine.jobs import MAX_TRIES
from raincheck.engine.remote.claims import give_back
from raincheck.engine.remote.leases import Absent, ActiveLease, Named, find_leases
from raincheck.engine.remote.protocol import (
    Ending,
    FinishedAttempt,
    FinishOutcome,
    ReportedError,
    decode_finished,
    parse_attempt_id,
    progress_json,
)
from raincheck.engine.remote.registration import Caller
from raincheck.functions.signature import fault_of
from raincheck.store.base import Held

logger = logging.getLogger("raincheck.remote")

BATCH = 1000
"""Entries that are written together."""


class Entry(Struct, frozen=True, eq=False):
    """How one attempt of a worker ended."""

    caller: Caller
    finished: FinishedAttempt
    held: Held

    def ending(self, outcome: FinishOutcome, problem: Problem | None = None) -> Ending:
        """What became of it."""
        return Ending(id=self.finished.id, outcome=outcome, problem=problem)


class Refused(Exception):
    """An entry is wrong; nothing was changed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


_Waiting = tuple[Entry, "asyncio.Future[Ending]"]
"""An entry, and where its caller waits for what became of it."""


class Finisher:
    """Writes how attempts ended, for one server.

    Entries of several requests that are there at once are written together: those of one job would conflict
    otherwise, and each would be tried as often as there are others.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def finish(self, caller: Caller, attempts: Sequence[Raw]) -> list[Ending]:
        """End attempts, each a `FinishedAttempt` as JSON; what became of each, in this order.

        An entry that is wrong is refused and changes nothing. Raises `StoreError` if it is not known what
        became of the entries: the same request can be repeated.
        """
        entries: list[Entry] = []
        endings: list[Ending | None] = []
        for position, body in enumerate(attempts):
            try:
                finished = _decoded(bytes(body), position)
            except InvalidInput as error:
                problem = _invalid(*error.faults)
                endings.append(Ending(id=_id_in(body), outcome="refused", problem=problem))
            else:
                endings.append(None)
                entries.append(Entry(caller, finished, parse_attempt_id(finished.id, "")))
        written = iter(await self.write(entries))
        return [next(written) if each is None else each for each in endings]

    async def write(self, entries: Sequence[Entry]) -> list[Ending]:
        """Write entries; what became of each. Raises `StoreError`."""
        loop = asyncio.get_running_loop()
        waiting: list[_Waiting] = [(entry, loop.create_future()) for entry in entries]
        self._waiting.extend(waiting)
        if waiting and (self._writing is None or self._writing.done()):
            self._writing = loop.create_task(self._write_all())
        return list(await asyncio.gather(*(future for _, future in waiting)))

    async def _write_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._write(batch)
            except StoreError as error:
                _fail(batch, error)
            except Exception as error:  # noqa: BLE001 - one of them raises: write each on its own
                await self._write_apart(batch, error)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch. If another process changes a job meanwhile, it is read again."""
        for _ in range(MAX_TRIES):
            batch = [each for each in batch if not each[1].done()]  # its request may have been cancelled
            if not batch:
                return
            endings = await _try_to_write(self._engine, [entry for entry, _ in batch])
            for (_, future), ending in zip(batch, endings, strict=True):
                if ending is not None and not future.done():
                    future.set_result(ending)
        raise StoreUnavailable("other processes keep changing the jobs of these attempts: try again")

    async def _write_apart(self, batch: Sequence[_Waiting], error: Exception) -> None:
        for each in batch:
            if len(batch) > 1:
                try:
                    await self._write([each])
                except Exception as own:  # noqa: BLE001 - raised to its caller
                    _fail([each], own)
            else:
                _fail([each], error)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    """Raise an error to the callers that still wait."""
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


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


async def _try_to_write(engine: Engine, entries: Sequence[Entry]) -> list[Ending | None]:
    """One try to write entries; None: another process has changed the job, or an entry before it."""
    store, now = engine.store, engine.store.now()
    endings: list[Ending | None] = [None] * len(entries)
    found = await find_leases(store, [Named(each.caller.worker.id, each.held) for each in entries])
    jobs: dict[str, Job] = {}
    judged: dict[str, list[tuple[int, Trigger]]] = {}
    for i, (entry, lease) in enumerate(zip(entries, found, strict=True)):
        try:
            if isinstance(lease, ActiveLease):
                trigger = _judge(entry, lease, engine.limits, now)
                jobs[lease.job.id] = lease.job
                judged.setdefault(lease.job.id, []).append((i, trigger))
            else:
                endings[i] = entry.ending(_absent(lease))
        except Refused as error:
            endings[i] = entry.ending("refused", error.problem)
    changes: list[tuple[Change, list[int]]] = []
    for job_id, ended in judged.items():
        try:
            change = lifecycle.advance(jobs[job_id], [trigger for _, trigger in ended], now)
        except IllegalTransition as error:
            logger.error("job %s: %s; its steps are given back", job_id, error)
            await give_back(store, [entries[i].held for i, _ in ended])
            for i, _ in ended:
                endings[i] = entries[i].ending("lost")
        else:
            left_out = frozenset(change.not_applied)
            changes.append((change, [i for n, (i, _) in enumerate(ended) if n not in left_out]))
    results = await store.commit([change for change, _ in changes]) if changes else []
    for (change, applied), result in zip(changes, results, strict=True):
        if result is None:
            for i in applied:
                endings[i] = entries[i].ending(_outcome(change.job.steps[entries[i].held.step]))
    return endings


def _absent(why: Absent) -> FinishOutcome:
    """The outcome for a lease that is not in force. Raises `Refused` for one that never was this worker's."""
    if why == "lost":
        return "lost"
    if why == "foreign":
        detail = "this is the attempt of another worker: use the ids that your own claims gave"
        raise Refused(Problem(type="not-allowed", title="Not allowed", status=403, detail=detail))
    raise Refused(Problem(type="not-found", title="Not found", status=404, detail="there is no such job"))


def _judge(entry: Entry, lease: ActiveLease, limits: Limits, now: float) -> Trigger:
    """The trigger for how an attempt ended, by the rules for all workers. Raises `Refused`."""
    caller, finished, name = entry.caller, entry.finished, lease.step.function
    function, attempt = caller.function(name), lifecycle.attempt_of(lease.lease)
    if finished.progress is not None:
        attempt = replace(attempt, progress=progress_json(finished.progress))
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
        return _failed(finished.error, attempt, function)
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
    if problem := outcomes.size_problem(name, result, data, limits):
        raise Refused(problem)
    return outcomes.succeeded(attempt, name, result, data, limits)


def _failed(error: ReportedError, attempt: Attempt, function: FunctionInfo) -> Failed:
    raised = Raised(
        tuple(dict.fromkeys((error.type, *error.types))),
        cut_message(error.message),
        cut_text(error.traceback),
        not error.retryable,
        error.retry_after,
    )
    return outcomes.failed(attempt, function.name, raised, function.retry, chance())


def _outcome(step: Step) -> FinishOutcome:
    """What became of an attempt, by its step after the change."""
    if step.state is State.DONE:
        return "done"
    if step.state is State.CANCELLED:
        return "cancelled"
    if step.error is not None and step.error.name == FailureType.TIMEOUT:
        return "timed-out"
    return "failed" if step.state is State.FAILED else "retried"
