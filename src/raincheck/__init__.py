"""raincheck: ask for a result; get it now, or take a rain check and redeem it later.

Each name is loaded at its first use: ``raincheck --help`` loads none of them, and a program that only submits
loads no worker.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from raincheck.version import VERSION

if TYPE_CHECKING:
    from raincheck.app import App
    from raincheck.auth import Auth
    from raincheck.client import AsyncClient, AsyncJobHandle, Client, JobHandle
    from raincheck.core.errors import (
        DoNotRetry,
        Gone,
        InvalidInput,
        JobCancelled,
        JobFailed,
        NotAllowed,
        NotFound,
        NotSignedIn,
        RaincheckError,
        RetryLater,
        StoreError,
        TooManyAttempts,
        Unfinished,
        Unreachable,
        WrongState,
    )
    from raincheck.core.limits import Limits
    from raincheck.core.model import RetryOptions, State, Step
    from raincheck.engine.documents import AttemptDocument, JobDocument, JobSummary
    from raincheck.engine.groups.definitions import GroupJob
    from raincheck.engine.groups.documents import RunDocument
    from raincheck.functions.context import Context
    from raincheck.functions.dependencies import injected
    from raincheck.functions.registry import Function, step
    from raincheck.worker import Worker

__version__ = VERSION

__all__ = [
    "App",
    "AsyncClient",
    "AsyncJobHandle",
    "AttemptDocument",
    "Auth",
    "Client",
    "Context",
    "DoNotRetry",
    "Function",
    "Gone",
    "GroupJob",
    "InvalidInput",
    "JobCancelled",
    "JobDocument",
    "JobFailed",
    "JobHandle",
    "JobSummary",
    "Limits",
    "NotAllowed",
    "NotFound",
    "NotSignedIn",
    "RaincheckError",
    "RetryLater",
    "RetryOptions",
    "RunDocument",
    "State",
    "Step",
    "StoreError",
    "TooManyAttempts",
    "Unfinished",
    "Unreachable",
    "Worker",
    "WrongState",
    "injected",
    "step",
]

_HOMES = {
    "App": "app",
    "AsyncClient": "client",
    "AsyncJobHandle": "client",
    "AttemptDocument": "engine.documents",
    "Auth": "auth",
    "Client": "client",
    "Context": "functions.context",
    "Function": "functions.registry",
    "GroupJob": "engine.groups.definitions",
    "JobDocument": "engine.documents",
    "JobHandle": "client",
    "JobSummary": "engine.documents",
    "Limits": "core.limits",
    "RetryOptions": "core.model",
    "RunDocument": "engine.groups.documents",
    "State": "core.model",
    "Step": "core.model",
    "Worker": "worker",
    "injected": "functions.dependencies",
    "step": "functions.registry",
}
"""The module of each name. Names that are not here are errors of `raincheck.core.errors`."""

if not TYPE_CHECKING:  # a type checker must not accept every name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = importlib.import_module(f"raincheck.{_HOMES.get(name, 'core.errors')}")
        value = globals()[name] = getattr(home, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
