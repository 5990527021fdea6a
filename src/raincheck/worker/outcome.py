"""How an attempt begins and how it ends: `prepare` and `judge` return triggers for the lifecycle.

Nothing here calls a function or the store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from raincheck.core import outcomes
from raincheck.core.clock import chance
from raincheck.core.errors import DoNotRetry, InvalidArguments, NotJSON, UnexpectedResult
from raincheck.core.lifecycle import on_claim
from raincheck.core.limits import Limits
from raincheck.core.outcomes import Raised
from raincheck.core.retry import RETRY_LATER, names_of
from raincheck.core.triggers import Failed, Stopped, Trigger
from raincheck.functions.context import Context
from raincheck.worker.attempt import Reason, RunningAttempt
from raincheck.worker.injector import Injector
from raincheck.worker.tracebacks import format_traceback


class Finished(Struct, frozen=True, gc=False):
    """How the function of an attempt ended: what it returned or raised."""

    attempt: RunningAttempt
    result: Any
    error: BaseException | None


class Outcome(Struct, frozen=True, gc=False):
    """The trigger that an attempt applies to its job."""

    attempt: RunningAttempt
    trigger: Trigger


class Encoded(NamedTuple):
    """A result and changed data that are JSON already, as a child process sends them."""

    result: bytes
    data: bytes | None


class ChildError(Exception):
    """An exception of a function in a child process, as plain data.

    ``names`` are those of its class and its bases; ``traceback`` is text.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        message: str,
        *,
        traceback: str = "",
        fatal: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.names = names
        self.traceback = traceback
        self.fatal = fatal
        self.retry_after = retry_after


def prepare(attempt: RunningAttempt, injector: Injector) -> Trigger | None:
    """Create an attempt's context and decode its arguments. None: run it; else the trigger that ends it."""
    claim, function = attempt.claim, attempt.function
    signature = function.signature
    trigger = on_claim(claim.job, claim.lease)
    if trigger is not None:
        return trigger
    if function.wants_context:
        attempt.context = Context(
            claim.job,
            claim.lease.step,
            attempt.previous,
            report=attempt.report,
            cancelled=attempt.is_stopping,
            state=injector.state,
            to_json=signature.values.to_json,
        )
    try:
        step = claim.step
        given = None
        if (extras := injector.extras(function)) is not None:
            given = extras.given(attempt.context)
            attempt.around = extras.around
        attempt.arguments = signature.bind(step.args, step.kwargs, given=given)
    except Exception as error:  # noqa: BLE001 - the arguments do not fit, or their class raises
        return failed(attempt, error, fatal=True)
    return None


def judge(finished: Finished, limits: Limits) -> Trigger | None:
    """The trigger for how an attempt ended; None: its lease is lost, or its step goes back to the queue.

    An attempt that took longer than its timeout has timed out, even if it returned a result.
    """
    attempt, error = finished.attempt, finished.error
    if attempt.reason is Reason.LOST or (attempt.reason is Reason.GIVEN_BACK and error is not None):
        return None
    if attempt.reason is Reason.CANCELLED:
        return Stopped(attempt.attempt)
    if attempt.reason is Reason.TIMEOUT or attempt.is_late:
        return _timed_out(attempt, error)
    if error is not None:
        return failed(attempt, error)
    return _succeeded(attempt, finished.result, limits)


def _succeeded(attempt: RunningAttempt, result: Any, limits: Limits) -> Trigger:
    """The attempt returned ``result``: it has failed if that cannot be stored."""
    try:
        if isinstance(result, Encoded):
            value, data = result
        else:
            value = attempt.function.signature.returns.write(result)
            data = None if attempt.context is None else attempt.context.changed_data()
    except NotJSON as error:
        named = NotJSON(f"what {attempt.function.name} returned or put into data is {error}")
        return failed(attempt, named, fatal=True)
    except UnexpectedResult as error:
        return failed(attempt, UnexpectedResult(f"{attempt.function.name} {error}"), fatal=True)
    except Exception as error:  # noqa: BLE001 - raised by the class of what was returned
        return failed(attempt, error, fatal=True)
    return outcomes.succeeded(attempt.attempt, attempt.function.name, value, data, limits)


def failed(attempt: RunningAttempt, error: BaseException, *, fatal: bool = False) -> Failed:
    """The attempt raised ``error``; ``fatal``: another attempt would fail in the same way."""
    names = error.names if isinstance(error, ChildError) else names_of(type(error))
    raised = Raised(
        names,
        message_of(error) + _no_attempt_left(attempt, names),
        traceback_of(error),
        fatal or isinstance(error, DoNotRetry | InvalidArguments) or getattr(error, "fatal", False) is True,
        retry_after_of(error),
    )
    return outcomes.failed(attempt.attempt, attempt.function.name, raised, attempt.function.retry, chance())


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception as text, also of one that a child process sent."""
    return error.traceback if isinstance(error, ChildError) else format_traceback(error)


def _no_attempt_left(attempt: RunningAttempt, names: Sequence[str]) -> str:
    """Says what to write if a function asks for a retry and its options allow only one attempt."""
    options = attempt.claim.step.retry or attempt.function.retry
    if RETRY_LATER not in names or options.retry_limit > 1:
        return ""
    return ". It is not retried, because one attempt is allowed: write @app.function(retry=5) for up to five"


def message_of(error: BaseException) -> str:
    """The message of an exception, fit to be stored, even if its class raises."""
    try:
        message = str(error)
    except Exception as wrong:  # noqa: BLE001 - it is the function's own code
        message = f"its message cannot be read: {type(wrong).__name__}"
    return outcomes.cut_message(message)


def retry_after_of(error: BaseException) -> float | None:
    """The ``retry_after`` of an exception in seconds; None: it has none, or one that is no number."""
    try:
        after = float(error.retry_after)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it has none, or one that is something else
        return None
    return None if math.isnan(after) else after


def _timed_out(attempt: RunningAttempt, error: BaseException | None) -> Failed:
    """The traceback of ``error``, or the stack of its thread, shows where the function was at its timeout."""
    traceback = attempt.stack or ("" if error is None else traceback_of(error))
    function, seconds = attempt.function, attempt.timeout or 0.0
    return outcomes.timed_out(attempt.attempt, function.name, seconds, function.retry, traceback, chance())
