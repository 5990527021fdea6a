"""The App: functions and a store, and what can be asked of them in Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from raincheck.blocking import BlockingApp
from raincheck.calls import Calls, Schedules
from raincheck.core.limits import Limits
from raincheck.core.model import OnFailure, RetryOptions
from raincheck.core.options import TemplateKeywords, template_options
from raincheck.engine.engine import Engine
from raincheck.engine.groups.declared import Groups
from raincheck.engine.groups.definition import GroupJob, from_code
from raincheck.engine.schedules.definition import ScheduleKeywords
from raincheck.engine.validation import Stages
from raincheck.functions.registry import DEFAULT_WAIT, Function, Functions

if TYPE_CHECKING:
    from raincheck.auth import Auth
    from raincheck.server.http import ASGIApp

DEFAULT_STORE = "sqlite:///raincheck.db"

Lifespan = Callable[["App"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class App(Calls):
    """Functions, and the store their jobs live in.

    ``store`` is a URL; without one ``RAINCHECK_STORE``, else ``sqlite:///raincheck.db``. ``config`` is
    the file that declares groups and schedules; without one ``RAINCHECK_CONFIG``, else ``raincheck.yaml``,
    if it is there. ``lifespan`` is an async context manager around everything a worker process runs; what
    it yields (a mapping) is ``ctx.state``. ``auth`` says who may call the HTTP API; without one, the
    environment does. The store is opened by the first call, or by ``async with app``.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        title: str = "raincheck",
        limits: Limits = Limits(),
        lifespan: Lifespan | None = None,
        auth: Auth | None = None,
    ) -> None:
        super().__init__(Engine(store or os.environ.get("RAINCHECK_STORE") or DEFAULT_STORE, config, limits))
        self.title = title
        self.lifespan = lifespan
        self.auth = auth
        self.schedules = Schedules(self.engine)
        self.blocking = BlockingApp(self.engine)

    @property
    def url(self) -> str:
        """The URL of the store; it may be changed until the store is opened."""
        return self.engine.url

    @url.setter
    def url(self, url: str) -> None:
        self.engine.url = url

    @property
    def config(self) -> str | os.PathLike[str] | None:
        """The file that declares groups and schedules, if it was named."""
        return self.engine.config

    @config.setter
    def config(self, config: str | os.PathLike[str] | None) -> None:
        self.engine.config = config

    @property
    def limits(self) -> Limits:
        """How much is accepted."""
        return self.engine.limits

    @property
    def functions(self) -> Functions:
        """The functions of this app."""
        return self.engine.functions

    @property
    def groups(self) -> Groups:
        """The groups of this app."""
        return self.engine.groups

    @overload
    def function(self, name: Callable[..., Any], /) -> Function: ...
    @overload
    def function(
        self,
        name: str | None = None,
        /,
        *,
        retry: RetryOptions = ...,
        timeout: float | None = ...,
        process: bool = ...,
        wait: float = ...,
    ) -> Callable[[Callable[..., Any]], Function]: ...
    def function(
        self,
        name: Any = None,
        /,
        *,
        retry: RetryOptions = RetryOptions(),
        timeout: float | None = None,
        process: bool = False,
        wait: float = DEFAULT_WAIT,
    ) -> Any:
        """Register a function, under its own name or the one given.

        ``retry`` and ``timeout`` (seconds an attempt) hold unless a step has its own. ``async def``
        runs on the worker's loop, ``def`` in a thread, either in a process of its own with ``process``.
        ``wait`` is how long a call over HTTP waits for the result, unless it says otherwise.
        Raises `RegistrationError`, or `RegisteredTooLate` once the app has started.
        """

        def register(function: Callable[..., Any]) -> Function:
            made = Function(
                function,
                name if isinstance(name, str) else function.__name__,
                retry=retry,
                timeout=timeout,
                process=process,
                wait=wait,
                caller=self.call,
            )
            self.functions.add(made)
            return made

        return register(name) if callable(name) else register

    def group(
        self,
        name: str,
        jobs: Sequence[GroupJob],
        *,
        then: Stages = (),
        on_failure: OnFailure = "fail",
        **options: Unpack[TemplateKeywords],
    ) -> None:
        """Declare a group: jobs that are triggered together, and the functions that follow them.

        The first function of ``then`` has the jobs' results, in order, as ``ctx.previous``. A job without a
        result fails the run, or with ``on_failure="continue"`` leaves null there. Options are ``data``,
        ``priority`` and ``result_ttl``. The faults of a group are raised when it is triggered. Raises
        `RegistrationError` or `NotJSON`.
        """
        self.groups.add(name, from_code(jobs, then, on_failure, template_options(options)))

    def schedule(self, name: str, functions: Stages = (), **options: Unpack[ScheduleKeywords]) -> None:
        """Declare a schedule: servers and workers of the app put it when they start, if it is new or changed.

        It submits a job of its name and these functions, or triggers a ``group``, by a ``cron`` expression
        in the IANA ``zone`` (UTC), or ``every`` so many seconds. Jobs get ``data``, ``priority`` and
        ``result_ttl``; each may take ``expires_in`` seconds. A firing more than ``grace`` seconds (60) late
        was missed; with ``catch_up`` the ``latest`` of those is made up for, or ``all``, or ``none``. Raises
        `InvalidInput`.
        """
        self.schedules.declare(name, functions, **options)

    @property
    def opened(self) -> bool:
        """Whether the store is open."""
        return self.engine.opened

    async def open(self) -> None:
        """Open the store; from now on no function can be registered. Calling it again does nothing."""
        await self.engine.open()

    async def close(self) -> None:
        """Close the store. The app can be opened again."""
        await self.engine.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @cached_property
    def asgi(self) -> ASGIApp:
        """The HTTP API, an ASGI application to be served or mounted in another."""
        from raincheck.server import create_server  # a program that only submits loads no web stack

        return create_server(self.engine, title=self.title, auth=self.auth)
