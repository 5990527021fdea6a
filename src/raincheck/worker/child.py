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
from raincheck.functions.dependencies import Dependencies, Dependency, Open, Scope, opening
from raincheck.functions.registry import Function
from raincheck.functions.signature import Signature
from raincheck.functions.values import Values
from raincheck.logs import CurrentAttempt, running
from raincheck.worker.child_logging import ChildLogging, Levels
from raincheck.worker.injector import Extras, Injector
from raincheck.worker.lifetime import resident_memory
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
    ``memory`` are the bytes that the process uses after an attempt.

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
    memory: int = 0


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
            reply = child.run(order)
            reply.memory = resident_memory()
            send(reply)


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

    def __init__(
        self,
        runner: asyncio.Runner,
        manager: AbstractAsyncContextManager[Any],
        variables: Variables | None = None,
    ) -> None:
        self._runner = runner
        self._manager = manager
        self._variables = variables

    def __enter__(self) -> Any:
        loop = self._runner.get_loop()
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._left: asyncio.Future[BaseException | None] = loop.create_future()
        self._task = loop.create_task(self._hold(), context=self._variables)
        return self._runner.run(self._enter())

    async def _enter(self) -> Any:
        await asyncio.wait([self._task, self._entered], return_when=asyncio.FIRST_COMPLETED)
        return self._task.result() if self._task.done() else self._entered.result()

    async def _hold(self) -> None:
        async with self._manager as entered:
            self._entered.set_result(entered)
            if (error := await self._left) is not None:
                raise error

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._left.set_result(error)
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
        self._loaded: dict[tuple[Place | None, ...], tuple[Function, Extras | None]] = {}

    def run(self, order: Order) -> Reply:
        """Run a function. Returns its result or its exception."""
        try:
            function, extras = self._load(order)
            signature = function.signature
            job = decode_job(order.job)
            step = job.steps[order.step]
            context = Context(
                job,
                order.step,
                order.previous,
                report=lambda value: self._send(Reply("progress", order.token, value)),
                to_json=signature.values.to_json,
            )
            given = None if extras is None else extras.given(context)
            bound = signature.bind(step.args, step.kwargs, given=given)
            variables = copy_context()
            variables.run(running.set, order.current)
            if extras is None or extras.around is None:
                args, kwargs = bound
                result = variables.run(function.function, *args, **kwargs)
                if asyncio.iscoroutine(result):
                    result = self._runner.run(result, context=variables)
            elif function.mode == "async":
                result = self._runner.run(extras.around.on_loop(bound, context), context=variables)
            else:
                with Held(self._runner, extras.around.opening_early(context), variables) as values:
                    result = variables.run(extras.around.call_here, bound, context, values)
        except BaseException as error:  # noqa: BLE001 - any exception is an outcome
            return _failure(error)
        return _done(order, signature, result, context)

    def _load(self, order: Order) -> tuple[Function, Extras | None]:
        """A function as the app of the worker has it, and what it gets besides its arguments."""
        places = order.function, order.encode, order.decode
        if places not in self._loaded:
            is_new = order.function.module not in sys.modules
            found = _find(order.function)
            hooks = [None if hook is None else _find(hook) for hook in places[1:]]
            function: Function = Function(
                found.function if isinstance(found, Function) else found,
                order.function.qualname,
                values=Values(*hooks),
                dependencies=self._dependencies,
            )
            extras = Injector([function], opened=self._opened).extras(function)
            self._loaded[places] = function, extras
            if is_new:  # the module may have configured logging as it does in the parent
                self._log.set_up()
        return self._loaded[places]


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
