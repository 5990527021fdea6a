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
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from threading import Lock, Thread
from types import ModuleType
from typing import Any

import msgspec

from raincheck.core.codec import decode_job, to_json
from raincheck.core.errors import DoNotRetry, InvalidArguments, NotJSON
from raincheck.core.retry import names_of
from raincheck.functions.context import Context
from raincheck.functions.registry import Function
from raincheck.functions.signature import Signature
from raincheck.logs import CurrentAttempt, running
from raincheck.worker.child_logging import ChildLogging, Levels
from raincheck.worker.outcome import message_of, retry_after_of
from raincheck.worker.tracebacks import format_traceback


class Order(msgspec.Struct, array_like=True):
    """An attempt to run: where its function is defined, its job (the record) and step.

    ``current`` is what log records say of it.
    """

    token: int
    module: str
    file: str | None
    qualname: str
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
        is_new = order.module not in sys.modules
        found = _find(order)
        if is_new:  # the module may have configured logging as it does in the parent
            log.set_up()
        function = found.function if isinstance(found, Function) else found
        signature = found.signature if isinstance(found, Function) else Signature(found)
        job = decode_job(order.job)
        step = job.steps[order.step]
        context = Context(
            job, order.step, order.previous, report=lambda value: send(Reply("progress", order.token, value))
        )
        args, kwargs = signature.bind(step.args, step.kwargs, context=context)
        variables = copy_context()
        variables.run(running.set, order.current)
        result = variables.run(function, *args, **kwargs)
        if asyncio.iscoroutine(result):
            result = runner.run(result, context=variables)
        return Reply("done", order.token, to_json(result), context.changed_data())
    except NotJSON as error:
        return _failure(NotJSON(f"what {order.qualname} returned or put into data is {error}"))
    except BaseException as error:  # noqa: BLE001 - any exception is an outcome
        return _failure(error)


def _failure(error: BaseException) -> Reply:
    return Reply(
        "failed",
        names=names_of(type(error)),
        message=message_of(error),
        traceback=format_traceback(error),
        fatal=isinstance(error, DoNotRetry | InvalidArguments | NotJSON),
        retry_after=retry_after_of(error),
    )


def _find(order: Order) -> Any:
    found: Any = _module(order.module, order.file)
    for part in order.qualname.split("."):
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
