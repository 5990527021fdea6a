"""An attempt as a pipeline: prepare it from a claim, call the function, judge what came of it.

Each outcome is a trigger for the lifecycle; nothing is written here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from raincheck.clock import chance
from raincheck.codec import to_json
from raincheck.context import Context
from raincheck.errors import DoNotRetry, InvalidArguments, NotJSON
from raincheck.limits import Limits
from raincheck.model import Problem
from raincheck.retry import names_of
from raincheck.triggers import Failed, Stopped, Succeeded, Trigger
from raincheck.worker.run import ChildError, Reason, Run, asked_pause, words_of

logger = logging.getLogger("raincheck.worker")


class Encoded:
    """A result that is JSON already, as it comes from a child process."""

    __slots__ = ("data", "result")

    def __init__(self, result: bytes, data: bytes | None) -> None:
        self.result = result
        self.data = data


def prepare(run: Run, report: Callable[[Run, bytes], None], state: Mapping[str, Any]) -> None:
    """Decode its arguments, and make its context.

    Raises `InvalidArguments` if they do not fit, or whatever the class of an argument raises.
    """
    claim, signature = run.claim, run.function.signature
    if signature.context is not None:
        run.context = Context(
            claim.job,
            claim.lease.step,
            run.previous,
            report=lambda progress: report(run, progress),
            cancelled=run.stopping,
            state=state,
        )
    run.arguments = signature.bind(claim.step.args, claim.step.kwargs, context=run.context)


def judge(run: Run, result: Any, error: BaseException | None, limits: Limits) -> Trigger:
    """What the end of a run means."""
    if run.reason is Reason.TIMEOUT:
        return _timed_out(run)
    if run.reason is Reason.CANCELLED:
        return Stopped(run.attempt)
    if error is not None:
        return failed(run, error)
    try:
        made = result if isinstance(result, Encoded) else Encoded(to_json(result), _changed(run))
    except NotJSON as wrong:
        named = NotJSON(f"what {run.function.name} returned or put into data is {wrong}")
        return failed(run, named, fatal=True)
    except Exception as wrong:  # noqa: BLE001 - raised by the class of what was returned
        return failed(run, wrong, fatal=True)
    for what, size in (("result", len(made.result)), ("data", len(made.data or b""))):
        if size > limits.result:
            return _too_large(run, what, size, limits.result)
    return Succeeded(run.attempt, made.result, made.data, limits.results)


def _changed(run: Run) -> bytes | None:
    return None if run.context is None else run.context.changed_data()


def failed(run: Run, error: BaseException, *, fatal: bool = False) -> Failed:
    """The run raised ``error``; ``fatal`` if another attempt would fail just so."""
    names = error.names if isinstance(error, ChildError) else names_of(type(error))
    detail = words_of(error)
    problem = Problem(
        type="function-failed",
        title=f"{run.function.name} raised {names[0]}",
        detail=detail,
        exception=names[0],
    )
    logger.warning("%s raised %s: %s", run, names[0], detail)
    logger.debug("the traceback of %s", run, exc_info=error)
    return Failed(
        run.attempt,
        problem,
        names,
        run.function.retry,
        fatal or isinstance(error, DoNotRetry | InvalidArguments) or getattr(error, "fatal", False) is True,
        asked_pause(error),
        chance(),
    )


def _timed_out(run: Run) -> Failed:
    logger.warning("%s took longer than its timeout of %g s", run, run.timeout)
    problem = Problem(
        type="timeout",
        title=f"{run.function.name} took too long",
        detail=f"an attempt may take {run.timeout:g} s",
        exception="TimeoutError",
    )
    return Failed(run.attempt, problem, names_of(TimeoutError), run.function.retry, chance=chance())


def _too_large(run: Run, what: str, size: int, limit: int) -> Failed:
    problem = Problem(
        type="result-too-large",
        title=f"The {what} of {run.function.name} is too large",
        detail=f"it has {size} bytes, at most {limit} are kept: store it elsewhere and return where",
    )
    return Failed(run.attempt, problem, fatal=True)
