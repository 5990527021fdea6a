"""Functions for child processes, which find them by module and name."""

import logging
import os
import signal
import sys
import threading
import time
from asyncio import CancelledError
from contextvars import ContextVar

from raincheck import Context, DoNotRetry, RetryLater

log = logging.getLogger("tests.child")
log.addHandler(logging.NullHandler())


class Unspeakable(Exception):
    """An exception whose message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


def square(number: int) -> int:
    return number * number


async def double(number: int) -> int:
    return 2 * number


def pid() -> int:
    return os.getpid()


def hang(ctx: Context) -> None:
    ctx.progress(os.getpid())
    while True:
        time.sleep(60)


def die(code: int) -> None:
    os._exit(code)


def shoot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    sys.exit("enough")


def interrupt() -> None:
    raise KeyboardInterrupt


def cancel() -> None:
    raise CancelledError


def mumble() -> None:
    raise Unspeakable


def refuse() -> None:
    raise DoNotRetry("never")


def once_more(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise RetryLater("busy", retry_after=0.01)
    return ctx.attempt


def thing() -> object:
    return {"thing": object()}


def note(ctx: Context, value: int) -> list[object]:
    ctx.progress(1, 2, "half")
    seen = dict(ctx.data)
    ctx.data["value"] = value
    return [ctx.previous, seen, ctx.attempt, ctx.job.name]


def lives_on() -> str:
    """Leave a thread behind that would keep the process from ending."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "done"


def haunt(ctx: Context) -> None:
    """Leave a thread behind that goes on telling progress."""

    def tell() -> None:
        while True:
            ctx.progress(13)
            time.sleep(0.001)

    threading.Thread(target=tell, daemon=True).start()


variable: ContextVar[str] = ContextVar("variable", default="nothing")


def mark(word: str) -> str:
    """Set a context variable; the answer is what it was before."""
    before = variable.get()
    variable.set(word)
    return before


async def mark_on_a_loop(word: str) -> str:
    """Do the same on a loop."""
    return mark(word)


def enlarge(ctx: Context, size: int) -> str:
    """A result of ``size`` letters; before it comes how many letters the one before had."""
    before = len(ctx.previous or "")
    return f"{before} ".ljust(size, "x")


def talk(count: int) -> int:
    """Log lines, then one below the level of the parent, and one with an exception."""
    for number in range(count):
        log.info("line %d", number, extra={"number": number, "odd": {number}})
    log.debug("not wanted")
    try:
        raise ValueError("too bad")
    except ValueError:
        log.exception("caught")
    return os.getpid()


def count_handlers() -> int:
    return len(log.handlers)


def keep_own_log(file: str) -> None:
    """Log to a file of its own."""
    handler = logging.FileHandler(file)
    log.addHandler(handler)
    log.info("for both")
    log.removeHandler(handler)
    handler.close()


def log_and_die() -> None:
    log.info("last words")
    os._exit(3)


def low(word: str) -> None:
    """Raise an exception with a note, two calls down."""
    error = ValueError(f"cannot read {word}")
    error.add_note("words only")
    raise error


def middle(word: str) -> None:
    """Raise from a cause."""
    try:
        low(word)
    except ValueError as error:
        raise LookupError("no such word") from error


async def middle_on_a_loop(word: str) -> None:
    """Do the same on a loop."""
    middle(word)


def gather_errors() -> None:
    """Raise a group of exceptions."""
    errors: list[Exception] = []
    for word in ("one", "two"):
        try:
            low(word)
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("two words", errors)


def shout(size: int) -> None:
    """Raise an exception with a long message of many lines."""
    raise ValueError("first line\n" + "word\n" * size + "last line")


def dive(depth: int) -> None:
    """Raise below many different calls."""
    if depth == 0:
        raise ValueError("at the bottom")
    namespace = {"dive": dive}
    exec(compile(f"dive({depth - 1})", f"<depth {depth}>", "exec"), namespace)
