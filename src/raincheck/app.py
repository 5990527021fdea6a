"""The App: declares functions, groups and schedules, names the store, and has the calls of `Calls`.

It holds an `Engine`, which has all of the work; the HTTP API (`App.asgi`), the worker (`Worker(app)`) and
`App.blocking` use the same engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from raincheck.blocking import BlockingApp
from raincheck.calls import Calls, Schedules
from raincheck.core.limits import Limits
from raincheck.core.model import OnFailure
from raincheck.core.options import TemplateKeywords, template_options
from raincheck.engine.engine import Engine
from raincheck.engine.groups.definitions import GroupJob, Groups, from_code
from raincheck.engine.schedules.definitions import ScheduleKeywords
from raincheck.engine.validation import Stages
from raincheck.functions.dependencies import Scope
from raincheck.functions.registry import FunctionDecorator, Functions, Middleware, check_middleware
from raincheck.functions.values import Decode, Encode, Values

if TYPE_CHECKING:
    from raincheck.auth import Auth
    from raincheck.server.http import ASGIApp

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE = "sqlite:///raincheck.db"

Lifespan = Callable[["App"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class App(Calls):
    """Functions, and the store of their jobs.

    ``store`` is a URL (default: ``RAINCHECK_STORE``, else ``sqlite:///raincheck.db``). ``config`` is the path
    of the configuration file, which declares functions behind URLs, groups and schedules (default:
    ``RAINCHECK_CONFIG``, else ``raincheck.yaml`` if it exists). ``lifespan`` is an async context manager that
    a worker process enters when it starts and leaves when it stops; it yields a mapping, ``ctx.state``. Each
    of ``middleware`` is an ``async def`` that gets the `Context` of an attempt and ``call_next``, which runs
    the next one or the function; the first is the outermost. ``auth`` is the sign-in of the HTTP API
    (default: as the environment says). ``allowed_origins`` are the origins whose pages may call it from a
    browser (default: ``RAINCHECK_ALLOWED_ORIGINS``, else none). ``encode(value)`` makes a value of a type
    that raincheck does not know plain, and ``decode(type, value)`` makes one of plain data; both raise
    `NotImplementedError` for types that they do not know. The first call opens the store, or ``async with
    app``.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        title: str = "raincheck",
        limits: Limits = Limits(),
        lifespan: Lifespan | None = None,
        middleware: Sequence[Middleware] = (),
        auth: Auth | None = None,
        allowed_origins: Sequence[str] | None = None,
        encode: Encode | None = None,
        decode: Decode | None = None,
    ) -> None:
        url = store or os.environ.get("RAINCHECK_STORE") or DEFAULT_STORE
        for each in middleware:
            check_middleware(each)
        super().__init__(Engine(url, config, limits, Values(encode, decode), middleware))
        self.title = title
        self.lifespan = lifespan
        self.auth = auth
        self.allowed_origins = allowed_origins
        self.schedules = Schedules(self.engine)
        self.blocking = BlockingApp(self.engine)

    @property
    def url(self) -> str:
        """The URL of the store. It may change until the store is opened."""
        return self.engine.url

    @url.setter
    def url(self, url: str) -> None:
        self.engine.url = url

    @property
    def config(self) -> str | os.PathLike[str] | None:
        """The path of the configuration file; None if none was named."""
        return self.engine.config

    @config.setter
    def config(self, config: str | os.PathLike[str] | None) -> None:
        self.engine.config = config

    @property
    def limits(self) -> Limits:
        """The limits on sizes and times."""
        return self.engine.limits

    @property
    def functions(self) -> Functions:
        """The functions of this app."""
        return self.engine.functions

    @property
    def groups(self) -> Groups:
        """The groups of this app."""
        return self.engine.groups

    @property
    def function(self) -> FunctionDecorator:
        """Registers a function: ``@app.function``, or ``@app.function(name, retry=..., timeout=..., ...)``.

        ``name`` is by default that of the Python function. ``retry`` and ``timeout`` (seconds per attempt)
        are the defaults of its steps. An ``async def`` runs on the event loop of the worker, a ``def`` in a
        thread, and both in a child process with ``process``. ``wait`` is the default wait of a call over
        HTTP, in seconds. A worker process runs at most ``concurrency`` attempts of the function at once
        (None: as many as it has slots). Raises `RegistrationError`, or `RegisteredTooLate` if the app has
        started.
        """
        return FunctionDecorator(self.functions, self.call)

    @overload
    def dependency(self, function: F, /, *, scope: Scope = "worker") -> F: ...
    @overload
    def dependency(self, function: None = None, /, *, scope: Scope = "worker") -> Callable[[F], F]: ...
    def dependency(self, function: Any = None, /, *, scope: Scope = "worker") -> Any:
        """Register a dependency: ``@app.dependency``, or ``@app.dependency(scope="attempt")``.

        The function returns or yields a value. Functions (and dependencies) declared below it get the
        value for each parameter annotated with its return type; callers do not pass these. A worker opens it
        when it starts, if one of its functions needs it, and runs what follows the ``yield`` when it stops,
        in reverse order; so does each child process of ``process=True`` functions. With ``scope="attempt"``
        it is opened and closed for each attempt, and may have a parameter for the `Context`; the exception of
        an attempt is raised at its ``yield``. A parameter named ``state`` gets what the lifespan yielded. An
        ``async def`` runs on the event loop, a ``def`` in a thread. Returns the function unchanged. Raises
        `RegistrationError`, or `RegisteredTooLate` if the app has started.
        """
        if function is None:
            return partial(self.dependency, scope=scope)
        self.functions.add_dependency(function, scope)
        return function

    def override(self, kind: object, value: object) -> AbstractContextManager[None]:
        """Replace the dependency of a type by a value, for tests: ``with app.override(Pool, FakePool()):``.

        Workers that start within the block use the value, and do not open the dependency. Raises
        `RegistrationError` if there is no dependency of this type.
        """
        return self.functions.dependencies.override(kind, value)

    def group(
        self,
        name: str,
        jobs: Sequence[GroupJob],
        *,
        then: Stages = (),
        on_failure: OnFailure = "fail",
        **options: Unpack[TemplateKeywords],
    ) -> None:
        """Declare a group: jobs that are triggered together, and functions that follow when all have ended.

        The first function of ``then`` gets the jobs' results, in order, as ``ctx.previous``. A job without a
        result fails the run; with ``on_failure="continue"`` its result is null. Options are ``data``,
        ``priority`` and ``result_ttl``. Faults of a group are raised when it is triggered. Raises
        `RegistrationError` or `NotJSON`.
        """
        to_json = self.functions.values.to_json
        typed = template_options(options, to_json)
        self.groups.add(name, from_code(jobs, then, on_failure, typed, to_json))

    def schedule(self, name: str, functions: Stages = (), **options: Unpack[ScheduleKeywords]) -> None:
        """Declare a schedule. Servers and workers of the app put it when they start, if it is new or changed.

        It submits a job with its name and these functions, or triggers a ``group``: by a ``cron`` expression
        in the IANA ``zone`` (UTC), or ``every`` number of seconds. Its jobs get ``data``, ``priority`` and
        ``result_ttl``, and must end within ``expires_in`` seconds. A firing that is more than ``grace``
        seconds (60) late counts as missed; ``catch_up`` makes up for the ``latest`` missed firing, for
        ``all`` or for ``none``. Raises `InvalidInput`.
        """
        self.schedules.declare(name, functions, **options)

    @property
    def opened(self) -> bool:
        """Whether the store is open."""
        return self.engine.opened

    async def open(self) -> None:
        """Open the store. From now on no function can be registered. Further calls do nothing."""
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
        """The HTTP API, an ASGI application that you can serve or mount in another."""
        from raincheck.server import Server  # here, so that a program that only submits loads no web stack

        return Server(self.engine, self.title, self.auth, self.allowed_origins)
