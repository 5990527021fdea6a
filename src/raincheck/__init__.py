"""raincheck: ask for a result; get it now, or take a rain check and redeem it later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raincheck.app import App
from raincheck.context import Context
from raincheck.documents import JobDocument
from raincheck.errors import (
    DoNotRetry,
    Gone,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
    RaincheckError,
    RetryLater,
    StoreError,
    WrongState,
)
from raincheck.functions import Function, step
from raincheck.limits import Limits
from raincheck.model import RetryOptions, State, Step

if TYPE_CHECKING:
    from raincheck.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "App",
    "Context",
    "DoNotRetry",
    "Function",
    "Gone",
    "InvalidInput",
    "JobCancelled",
    "JobDocument",
    "JobFailed",
    "Limits",
    "NotFound",
    "RaincheckError",
    "RetryLater",
    "RetryOptions",
    "State",
    "Step",
    "StoreError",
    "Worker",
    "WrongState",
    "step",
]


def __getattr__(name: str) -> Any:
    if name == "Worker":  # only who runs a worker loads it
        from raincheck.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
