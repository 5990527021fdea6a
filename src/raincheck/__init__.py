"""raincheck: ask for a result; get it now, or take a rain check and redeem it later.

Each name is loaded when it is first asked for: ``raincheck --help`` loads none of them, a program
that only submits no worker.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from raincheck.version import VERSION

if TYPE_CHECKING:
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
    from raincheck.groups.definition import GroupJob
    from raincheck.groups.documents import RunDocument
    from raincheck.limits import Limits
    from raincheck.model import RetryOptions, State, Step
    from raincheck.worker import Worker

__version__ = VERSION

__all__ = [
    "App",
    "Context",
    "DoNotRetry",
    "Function",
    "Gone",
    "GroupJob",
    "InvalidInput",
    "JobCancelled",
    "JobDocument",
    "JobFailed",
    "Limits",
    "NotFound",
    "RaincheckError",
    "RetryLater",
    "RetryOptions",
    "RunDocument",
    "State",
    "Step",
    "StoreError",
    "Worker",
    "WrongState",
    "step",
]

_HOMES = {
    "App": "app",
    "Context": "context",
    "Function": "functions",
    "GroupJob": "groups.definition",
    "JobDocument": "documents",
    "Limits": "limits",
    "RetryOptions": "model",
    "RunDocument": "groups.documents",
    "State": "model",
    "Step": "model",
    "Worker": "worker",
    "step": "functions",
}
"""The module of each name; those not here are errors."""

if not TYPE_CHECKING:  # a type checker shall not think that there is every name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = importlib.import_module(f"raincheck.{_HOMES.get(name, 'errors')}")
        value = globals()[name] = getattr(home, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
