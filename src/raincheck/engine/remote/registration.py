"""The registration of workers that connect over HTTP, and what a token allows them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import asdict, replace

from raincheck.auth import allows, worker_scope
from raincheck.core.clock import monotonic, new_secret
from raincheck.core.errors import Fault, InvalidInput, NotAllowed, NotFound, StoreUnavailable
from raincheck.core.model import FunctionInfo, WorkerInfo
from raincheck.engine.engine import Engine
from raincheck.engine.remote.protocol import (
    EXTENSIONS,
    MAX_ATTEMPTS,
    Registered,
    Registration,
    RemoteFunction,
    WorkerLimits,
)
from raincheck.functions.offered import schema_faults
from raincheck.functions.registry import is_function_name
from raincheck.store.base import Held, Store

PATIENCE = 10.0
"""Seconds for which a request waits for a heartbeat."""

_NOT_IN_A_PATH = re.compile(r"[^A-Za-z0-9_.-]+")


class Caller:
    """A registered worker that calls, and the scopes of its token; None: no sign-in."""

    def __init__(self, worker: WorkerInfo, scopes: Collection[str] | None) -> None:
        self.worker = worker
        self.scopes = scopes
        self._functions = {each.name: each for each in worker.functions}

    def may_run(self, function: str) -> bool:
        """Whether its scopes include a function."""
        return self.scopes is None or allows(self.scopes, worker_scope(function))

    def function(self, name: str) -> FunctionInfo:
        """A function as it has registered it."""
        return self._functions.get(name) or FunctionInfo(name=name)


async def register(
    engine: Engine, request: Registration, address: str, scopes: Collection[str] | None
) -> Registered:
    """Register a worker that calls from ``address``.

    Raises `InvalidInput` for a function that cannot be registered, and `NotAllowed` if the scopes do not
    include one.
    """
    _check_functions(request.functions)
    token, now = new_secret(), engine.store.now()
    name = _NOT_IN_A_PATH.sub("-", request.name)[:50].strip("-.")
    worker = WorkerInfo(
        id=f"{name or 'worker'}-{new_secret(16)}",
        host=request.host or address,
        pid=request.pid,
        version=request.version,
        concurrency=request.capacity,
        functions=tuple(_info(each) for each in request.functions),
        started_at=now,
        name=request.name,
        token_digest=_digest(token),
        lease=request.lease,
    )
    check_scopes(Caller(worker, scopes), [each.name for each in request.functions], "/functions/{}/name")
    await renew(engine, worker, request.lease)
    return Registered(
        id=worker.id,
        token=token,
        lease=request.lease,
        heartbeat=request.lease / EXTENSIONS,
        functions=[each.name for each in request.functions],
        limits=WorkerLimits(body=finish_limit(engine), result=engine.limits.result, attempts=MAX_ATTEMPTS),
    )


def finish_limit(engine: Engine) -> int:
    """The size of a request that finishes attempts, in bytes: it has room for one result of any size."""
    return engine.limits.result + engine.limits.body


def _check_functions(functions: Iterable[RemoteFunction]) -> None:
    faults: list[Fault] = []
    seen: set[str] = set()
    for i, each in enumerate(functions):
        at = f"/functions/{i}"
        if not is_function_name(each.name):
            faults.append(Fault(f"{each.name[:50]!r} cannot be the name of a function", f"{at}/name"))
        elif each.name in seen:
            faults.append(Fault(f"{each.name!r} is registered twice", f"{at}/name"))
        seen.add(each.name)
        for member in ("parameters", "positional", "returns"):
            faults += schema_faults(getattr(each, member), f"{at}/{member}")
    if faults:
        raise InvalidInput(*faults)


def _info(function: RemoteFunction) -> FunctionInfo:
    fields = asdict(function)
    return FunctionInfo(retry=fields.pop("retry_options"), **fields)


def check_scopes(caller: Caller, functions: Sequence[str], pointer: str) -> None:
    """Raise `NotAllowed` if the scopes do not include all functions."""
    denied = [i for i, name in enumerate(functions) if not caller.may_run(name)]
    if denied:
        faults = [
            Fault(f"the token has no scope {worker_scope(functions[i])}", pointer.format(i)) for i in denied
        ]
        raise NotAllowed(
            f"the token does not allow a worker to run {functions[denied[0]]}: use one with the scope "
            f"{worker_scope(functions[denied[0]])}, or with a pattern that matches it",
            *faults,
            scope=worker_scope(functions[denied[0]]),
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def find_caller(
    engine: Engine, worker_id: str, token: str | None, scopes: Collection[str] | None
) -> Caller:
    """The worker with this id and token. Reads the registry if it does not know the id.

    Raises `NotFound` if it is not registered, or not any more, and `NotAllowed` if the token is wrong.
    """
    workers = engine.workers
    worker = workers.worker(worker_id)
    if worker is None or worker.seen_until <= engine.store.now():
        await workers.read_since(monotonic())
        worker = workers.worker(worker_id)
    if worker is None or not worker.token_digest or worker.seen_until <= engine.store.now():
        raise NotFound(
            f"no worker has the id {worker_id[:100]!r}, or its registration has expired: register again"
        )
    if token is None or not hmac.compare_digest(_digest(token), worker.token_digest):
        raise NotAllowed(
            "the header Worker-Token is not that of this worker: send the token of its registration"
        )
    return Caller(worker, scopes)


async def renew(
    engine: Engine, worker: WorkerInfo, seconds: float, held: Sequence[Held] = ()
) -> list[int | None]:
    """Register a worker for at least ``seconds`` from now, and extend its leases: see `Store.heartbeat`."""
    now = engine.store.now()
    until = max(worker.seen_until, now + seconds)
    revs = await _heartbeat(engine.store, worker, held, seconds)
    engine.workers.update(replace(worker, seen_at=now, seen_until=until))
    return revs


async def _heartbeat(
    store: Store, worker: WorkerInfo, held: Sequence[Held], seconds: float
) -> list[int | None]:
    """A heartbeat, from a thread; if the store is away, requests do not wait for threads without end."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(store.heartbeat, worker, held, seconds)
    except TimeoutError:
        raise StoreUnavailable(f"the store was busy for {PATIENCE:g} s") from None


async def leave(engine: Engine, caller: Caller) -> None:
    """Remove a worker from the registry; leases that it still holds run out."""
    worker = caller.worker
    await _heartbeat(engine.store, replace(worker, state="stopped"), (), worker.lease)
    engine.workers.remove(worker.id)
