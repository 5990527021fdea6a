"""A child process that runs ``process=True`` functions, one at a time.

It is spawned, never forked. It exchanges MessagePack arrays of JSON values with its parent, and sends
exceptions as plain data. It ends when its parent ends, in any way.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from contextvars import Context as Variables
from contextvars import copy_context
from functools import cache
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from threading import Lock, Thread
from types import ModuleType
from typing import Any

import msgspec

from raincheck.core.codec import decode_job
from raincheck.core.errors import DoNotRetry, InvalidArguments, NotJSON, UnexpectedResult
from raincheck.core.retry import names_of
from raincheck.functions.context import Context
from raincheck.functions.dependencies import (
    Dependencies,
    Dependency,
    Open,
    Scope,
    in_order,
    opening,
    opening_here,
    split,
)
from raincheck.functions.registry import Function, is_async
from raincheck.functions.signature import Bound, Signature
from raincheck.functions.values import Values
from raincheck.logs import CurrentAttempt, running
from raincheck.worker.child_logging import ChildLogging, Levels
from raincheck.worker.outcome import message_of, retry_after_of
from raincheck.worker.tracebacks import format_traceback


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where a function is defined."""

    module: str
    file: str | None
    qualname: str


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """A dependency: where its function is defined, and its scope."""

    place: Place
    scope: Scope


class Order(msgspec.Struct, array_like=True):
    """An attempt to run: where its function and the hooks of its app are, its job (the record) and step."""

    token: int
    function: Place
    encode: Place | None
    decode: Place | None
    job: bytes
    step: int
    previous: bytes
    current: CurrentAttempt


class Reply(msgspec.Struct, array_like=True):
    """``ready``, ``progress``, ``log``, ``done`` or ``failed``, in place of ``ready``, too. ``value`` (of
    ``log``: a record) and ``data`` are JSON, ``names`` the names of the exception's class and its bases.

    ``token`` is that of the order: a thread that a function left running may report progress while the next
    function runs.
    """

    kind: str
    token: int = 0
    value: bytes = b"null"
    data: bytes | None = None
    names: tuple[str, ...] = ()
    message: str = ""
    traceback: str = ""
    fatal: bool = False
    retry_after: float | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Order).decode
_decode_openings = msgspec.msgpack.Decoder(list[Opening]).decode


def main(pipe: Connection, levels: Levels, openings: bytes) -> None:
    """Serve orders until the parent closes the pipe.

    ``levels`` are those of the parent's loggers, ``openings`` the dependencies of the functions: they are
    open meanwhile.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the parent handles them
        signal.signal(number, lambda *_: None)  # not SIG_IGN: processes that functions start would inherit it
    Thread(target=_die_with_parent, daemon=True).start()
    lock = Lock()

    def send(reply: Reply) -> None:
        message = _encode(reply)
        with lock:
            pipe.send_bytes(message)

    log = ChildLogging(levels, lambda record: send(Reply("log", value=record)))
    log.set_up()
    with asyncio.Runner() as runner, ExitStack() as stack:
        try:
            dependencies = _dependencies(_decode_openings(openings))
            once = [each for each in dependencies if each.scope == "worker"]
            opened = stack.enter_context(Held(runner, opening(once, {}, {}))) if once else {}
            log.set_up()  # the modules may have configured logging
        except BaseException as error:  # noqa: BLE001 - it becomes that of the attempt
            send(_failure(error))
            return
        send(Reply("ready"))
        child = Child(runner, dependencies, opened, send, log)
        while True:
            try:
                order = _decode(pipe.recv_bytes())
            except (EOFError, OSError):
                return
            send(child.run(order))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _dependencies(openings: Sequence[Opening]) -> Dependencies:
    dependencies = Dependencies()
    for each in openings:
        dependencies.add(Dependency(_find(each.place), each.scope, dependencies))
    return dependencies


class Held(AbstractContextManager[Any]):
    """Enters and leaves an async context manager in one task of a loop that runs only at times.

    Some libraries demand that both are done in the same task.
    """

    def __init__(self, runner: asyncio.Runner, manager: AbstractAsyncContextManager[Any]) -> None:
        self._runner = runner
        self._manager = manager

    def __enter__(self) -> Any:
        loop = self._runner.get_loop()
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._left: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._hold())
        return self._runner.run(self._enter())

    async def _enter(self) -> Any:
        await asyncio.wait([self._task, self._entered], return_when=asyncio.FIRST_COMPLETED)
        return self._task.result() if self._task.done() else self._entered.result()

    async def _hold(self) -> None:
        async with self._manager as entered:
            self._entered.set_result(entered)
            await self._left

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._left.set_result(None)
        else:
            self._left.set_exception(error)
        self._runner.run(self._leave())

    async def _leave(self) -> None:
        await self._task


class Child:
    """Runs orders, with the dependencies that this process has ``opened``."""

    def __init__(
        self,
        runner: asyncio.Runner,
        dependencies: Dependencies,
        opened: Open,
        send: Callable[[Reply], None],
        log: ChildLogging,
    ) -> None:
        self._runner = runner
        self._dependencies = dependencies
        self._opened = opened
        self._send = send
        self._log = log

    def run(self, order: Order) -> Reply:
        """Run a function. Returns its result or its exception."""
        try:
            is_new = order.function.module not in sys.modules
            places = order.function, order.encode, order.decode
            function, signature = _function(*places, self._dependencies)
            if is_new:  # the module may have configured logging as it does in the parent
                self._log.set_up()
            job = decode_job(order.job)
            context = Context(
                job,
                order.step,
                order.previous,
                report=lambda value: self._send(Reply("progress", order.token, value)),
                to_json=signature.values.to_json,
            )
            step = job.steps[order.step]
            bound = signature.bind(step.args, step.kwargs)
            variables = copy_context()
            variables.run(running.set, order.current)
            result = self._call(function, signature, bound, context, variables)
        except BaseException as error:  # noqa: BLE001 - any exception is an outcome
            return _failure(error)
        return _done(order, signature, result, context)

    def _call(
        self, function: Any, signature: Signature, bound: Bound, context: Context, variables: Variables
    ) -> Any:
        """Call a function, and open and close its dependencies of an attempt."""

        def complete(values: Open) -> Bound:
            given = {name: values[dependency] for name, dependency in signature.dependencies.items()}
            if signature.context is not None:
                given[signature.context] = context
            return signature.insert(*bound, given)

        async def call() -> Any:
            async with opening(per_attempt, self._opened, {}, context) as values:
                args, kwargs = complete(values)
                return await function(*args, **kwargs)

        per_attempt = in_order(signature.dependencies.values(), self._opened)
        if is_async(function):
            return self._runner.run(call(), context=variables)
        early, late = split(per_attempt)
        with ExitStack() as stack:
            values = self._opened
            if early:
                values = stack.enter_context(Held(self._runner, opening(early, values, {}, context)))
            values = stack.enter_context(opening_here(late, values, {}, context))
            args, kwargs = complete(values)
            result = variables.run(function, *args, **kwargs)
            return self._runner.run(result, context=variables) if asyncio.iscoroutine(result) else result


def _done(order: Order, signature: Signature, result: Any, context: Context) -> Reply:
    """The reply with a result, or that the result cannot be stored."""
    name = order.function.qualname
    try:
        return Reply("done", order.token, signature.returns.write(result), context.changed_data())
    except NotJSON as error:
        return _failure(NotJSON(f"what {name} returned or put into data is {error}"), fatal=True)
    except UnexpectedResult as error:
        return _failure(UnexpectedResult(f"{name} {error}"), fatal=True)
    except Exception as error:  # noqa: BLE001 - raised by the class of what was returned
        return _failure(error, fatal=True)


def _failure(error: BaseException, *, fatal: bool = False) -> Reply:
    return Reply(
        "failed",
        names=names_of(type(error)),
        message=message_of(error),
        traceback=format_traceback(error),
        fatal=fatal or isinstance(error, DoNotRetry | InvalidArguments),
        retry_after=retry_after_of(error),
    )


@cache
def _function(
    place: Place, encode: Place | None, decode: Place | None, dependencies: Dependencies
) -> tuple[Any, Signature]:
    """A function, and its signature in the app that runs it."""
    found = _find(place)
    function = found.function if isinstance(found, Function) else found
    hooks = [None if hook is None else _find(hook) for hook in (encode, decode)]
    return function, Signature(function, Values(*hooks), dependencies)


def _find(place: Place) -> Any:
    found: Any = _module(place.module, place.file)
    for part in place.qualname.split("."):
        found = getattr(found, part)
    return found


def _module(name: str, file: str | None) -> ModuleType:
    """The module, by name, or from its file if it was not imported by a name that leads to it."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name or file is None:
            raise
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
