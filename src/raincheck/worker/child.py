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
from collections.abc import Callable
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
from raincheck.functions.registry import Function
from raincheck.functions.signature import Signature
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
    """``ready``, ``progress``, ``log``, ``done`` or ``failed``. ``value`` (of ``log``: a record) and ``data``
    are JSON, ``names`` the names of the exception's class and its bases.

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


def main(pipe: Connection, levels: Levels) -> None:
    """Serve orders until the parent closes the pipe; ``levels`` are those of the parent's loggers."""
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
    send(Reply("ready"))
    with asyncio.Runner() as runner:
        while True:
            try:
                order = _decode(pipe.recv_bytes())
            except (EOFError, OSError):
                return
            send(_run(order, runner, send, log))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run(order: Order, runner: asyncio.Runner, send: Callable[[Reply], None], log: ChildLogging) -> Reply:
    try:
        is_new = order.function.module not in sys.modules
        function, signature = _function(order.function, order.encode, order.decode)
        if is_new:  # the module may have configured logging as it does in the parent
            log.set_up()
        job = decode_job(order.job)
        step = job.steps[order.step]
        context = Context(
            job,
            order.step,
            order.previous,
            report=lambda value: send(Reply("progress", order.token, value)),
            to_json=signature.values.to_json,
        )
        args, kwargs = signature.bind(step.args, step.kwargs, context=context)
        variables = copy_context()
        variables.run(running.set, order.current)
        result = variables.run(function, *args, **kwargs)
        if asyncio.iscoroutine(result):
            result = runner.run(result, context=variables)
    except BaseException as error:  # noqa: BLE001 - any exception is an outcome
        return _failure(error)
    return _done(order, signature, result, context)


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
def _function(place: Place, encode: Place | None, decode: Place | None) -> tuple[Any, Signature]:
    """A function and its signature. One that was not decorated where it is defined needs the hooks."""
    found = _find(place)
    if isinstance(found, Function):
        return found.function, found.signature
    hooks = [None if hook is None else _find(hook) for hook in (encode, decode)]
    return found, Signature(found, Values(*hooks))


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
