"""Claims of workers that connect over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from raincheck.core import lifecycle
from raincheck.core.clock import monotonic, to_datetime
from raincheck.core.errors import Fault, IllegalTransition, InvalidInput, StoreError
from raincheck.core.model import Claim, WorkerInfo
from raincheck.core.triggers import Trigger
from raincheck.engine.documents import raw
from raincheck.engine.engine import Engine
from raincheck.engine.jobs import Stop
from raincheck.engine.remote.protocol import EXTENSIONS, ClaimedAttempt, ClaimRequest, attempt_id
from raincheck.engine.remote.registration import Caller, check_scopes, renew
from raincheck.engine.results import load_previous
from raincheck.store.base import Held, Store

logger = logging.getLogger("raincheck.remote")


async def claim(engine: Engine, caller: Caller, request: ClaimRequest, stop: Stop) -> list[ClaimedAttempt]:
    """Claim attempts. Waits for one as long as the request says, but not longer than ``stop`` is not done.

    Attempts at jobs that are being cancelled or have expired are ended here. Raises `InvalidInput` for a
    function that the worker has not registered, and `NotAllowed` for one that its scopes do not include.
    """
    worker, store = caller.worker, engine.store
    names = _names(caller, request)
    wait = min(request.wait, engine.limits.wait)
    lasting = wait + worker.lease
    if worker.seen_until - store.now() < lasting - worker.lease / EXTENSIONS:
        await renew(engine, worker, lasting)
    until = monotonic() + wait
    while True:
        left = max(0.0, until - monotonic())
        claims = await _claim(store, worker, names, request, left, stop)
        try:
            attempts = await _begin(engine, caller, claims)
        except BaseException:
            await give_back(store, [*map(_held, claims)])
            raise
        if attempts or not claims or stop.done():
            return attempts


def _names(caller: Caller, request: ClaimRequest) -> Sequence[str]:
    registered = [each.name for each in caller.worker.functions]
    if request.functions is None:
        check_scopes(caller, registered, "/functions")
        return registered
    known = frozenset(registered)
    faults = [
        Fault(f"{name[:50]!r} is not a function that this worker has registered", f"/functions/{i}")
        for i, name in enumerate(request.functions)
        if name not in known
    ]
    if faults:
        raise InvalidInput(*faults)
    check_scopes(caller, request.functions, "/functions/{}")
    return request.functions


async def _claim(
    store: Store, worker: WorkerInfo, names: Sequence[str], request: ClaimRequest, wait: float, stop: Stop
) -> list[Claim]:
    """Claims; none if ``stop`` is done first. A cancelled claim of the store gives back what it claimed."""
    claiming = asyncio.ensure_future(
        store.claim(worker.id, names, request.limit, worker.lease, wait, request.limits)
    )
    try:
        await asyncio.wait((claiming, stop), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if claiming.cancel():
            raise
        if claiming.exception() is None:
            await give_back(store, [*map(_held, claiming.result())])
        raise
    if not claiming.done():
        claiming.cancel()
        await asyncio.wait((claiming,))
    return [] if claiming.cancelled() else claiming.result()


async def _begin(engine: Engine, caller: Caller, claims: list[Claim]) -> list[ClaimedAttempt]:
    """The attempts of claims. Ends those that are not to run, and gives back those that do not fit."""
    ready: list[Claim] = []
    ended: list[tuple[Claim, Trigger]] = []
    for each in claims:
        trigger = lifecycle.on_claim(each.job, each.lease)
        if trigger is None:
            ready.append(each)
        else:
            ended.append((each, trigger))
    await _end_unrun(engine.store, ended)
    previous = await _previous(engine.store, ready)
    attempts: list[ClaimedAttempt] = []
    room = engine.limits.result + engine.limits.page_bytes
    for i, each in enumerate(ready):
        before = previous.get(each.lease.token, b"null")
        if before is None:
            logger.warning("job %s was removed before its %s began", each.job.id, each.step.function)
            continue
        room -= len(before) + len(each.step.args) + len(each.step.kwargs) + len(each.job.data)
        if room < 0 and attempts:
            await give_back(engine.store, [*map(_held, ready[i:])])
            break
        attempts.append(_claimed(each, caller.function(each.step.function).timeout, before))
    return attempts


async def _end_unrun(store: Store, ended: Sequence[tuple[Claim, Trigger]]) -> None:
    """End attempts that are not to run. If their job has changed meanwhile, they are given back."""
    jobs = {claim.job.id: claim.job for claim, _ in ended}
    changes = []
    for job in jobs.values():
        triggers = [trigger for claim, trigger in ended if claim.job.id == job.id]
        with suppress(IllegalTransition):
            changes.append(lifecycle.advance(job, triggers, store.now()))
    outcomes = await store.commit(changes) if changes else []
    written = {change.job.id for change, each in zip(changes, outcomes, strict=True) if each is None}
    await give_back(store, [_held(claim) for claim, _ in ended if claim.job.id not in written])


async def _previous(store: Store, claims: Sequence[Claim]) -> Mapping[int, bytes | None]:
    """``previous`` of each claim after the first stage by token, as JSON; None: its job was removed."""
    later = [each for each in claims if each.step.stage > 0]
    results = await load_previous(store, later) if later else []
    return {each.lease.token: result for each, result in zip(later, results, strict=True)}


def _claimed(claim: Claim, timeout: float | None, previous: bytes) -> ClaimedAttempt:
    """The message for a claim; ``timeout`` is that of its function, in seconds."""
    job, lease, step = claim.job, claim.lease, claim.step
    timeout = timeout if step.timeout is None else step.timeout
    ends = [each for each in (timeout and lease.since + timeout, job.expires_at) if each is not None]
    return ClaimedAttempt(
        id=attempt_id(_held(claim)),
        token=lease.token,
        job=job.id,
        name=job.name,
        step=lease.step,
        function=step.function,
        args=raw(step.args),
        kwargs=raw(step.kwargs),
        data=raw(job.data),
        previous=raw(previous),
        attempt=step.retry_count + step.lost_count + 1,
        created_at=to_datetime(job.created_at),
        started_at=to_datetime(lease.since),
        lease_until=to_datetime(lease.until),
        timeout=timeout,
        deadline=to_datetime(min(ends)) if ends else None,
    )


async def return_attempts(engine: Engine, attempts: Sequence[ClaimedAttempt]) -> None:
    """Give back attempts that could not be handed to their worker."""
    await give_back(engine.store, [Held(each.job, each.step, each.token) for each in attempts])


async def give_back(store: Store, held: Sequence[Held]) -> None:
    """Return steps to the queue, unrun; if the store is away, their leases run out."""
    if not held:
        return
    try:
        await store.release(held)
    except StoreError as error:
        logger.warning("%d steps could not be given back, their leases run out: %s", len(held), error)


def _held(claim: Claim) -> Held:
    return Held(claim.job.id, claim.lease.step, claim.lease.token)
