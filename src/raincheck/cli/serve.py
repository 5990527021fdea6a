"""Commands that run an app: serve, server, worker."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from cyclopts import Parameter, Token
from cyclopts.validators import Number
from rich.text import Text

from raincheck.app import App
from raincheck.auth import Auth
from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.runner import (
    Children,
    Main,
    WorkerProcesses,
    call_when_parent_stops,
    freeze_startup_objects,
    read_first_line,
    run_in_thread,
    run_until_signal,
)
from raincheck.cli.target import load
from raincheck.cli.terminal import out, plain, set_up_logging, warn
from raincheck.core.clock import now
from raincheck.core.errors import NotSignedIn, StoreError, StoreUnusable, TargetError
from raincheck.logs import Format, Level
from raincheck.store import is_in_memory, mask, needs_a_file

if TYPE_CHECKING:
    from raincheck.worker.lifetime import Report

Limit = Annotated[int | None, Parameter(validator=Number(gte=1))]
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Flag = Annotated[bool, Parameter(show_default=False)]

REGISTRATION_TIMEOUT = 5.0
"""Seconds that ``serve`` waits for its workers to register before it says that it listens."""

_POLL_INTERVAL = 0.02
"""Seconds between two looks at the registered workers."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of the HTTP server."""

    host: Annotated[str, Parameter(env_var="RAINCHECK_HOST")] = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Parameter(env_var="RAINCHECK_PORT", validator=Number(gte=0, lte=65535))] = 8000
    """Port to listen on; 0 selects a free one."""
    insecure: Flag = False
    """Listen on an address that other machines can reach, without sign-in."""
    secret_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Require sign-in; file with the secrets or keys that sign tokens (default: RAINCHECK_SECRET_FILE)."""
    users: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """File with the users (default: RAINCHECK_USERS, else raincheck-users.json)."""

    access_log: Annotated[bool, Parameter(env_var="RAINCHECK_ACCESS_LOG", show_default=False)] = False
    """Log each request, without its query."""
    drain: Annotated[float, Parameter(validator=Number(gte=0), metavar="SECONDS")] = 0.0
    """Seconds that a server that stops still takes requests, so that proxies find out at /readyz."""
    routes: Flag = False
    """Print all routes of the API at the start, not only the first ones to know."""

    @property
    def auth(self) -> Auth | None:
        """The sign-in that the options and the environment configure; None if they do not."""
        options = {"RAINCHECK_SECRET_FILE": self.secret_file, "RAINCHECK_USERS": self.users}
        variables = {name: str(path) for name, path in options.items() if path is not None}
        return Auth.from_environment(os.environ | variables)


def _patterns(kind: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """The patterns in the values of an option: repeated, or separated by commas."""
    return tuple(word.strip() for token in tokens for word in token.value.split(","))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Options of a worker."""

    concurrency: AtLeastOne = 100
    """Attempts that a worker runs at the same time."""
    process_slots: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """Attempts of process=True functions that a worker runs at the same time (default: CPU count)."""
    functions: Annotated[
        tuple[str, ...],
        Parameter(converter=_patterns, consume_multiple=False, show_default=False, metavar="PATTERN"),
    ] = ()
    """Offer only functions that match; `*` is any text, !PATTERN leaves out. Repeat it, or use commas."""
    lease: Annotated[float, Parameter(validator=Number(gte=1), metavar="SECONDS")] = 15.0
    """Seconds before a dead worker's jobs are taken over."""
    grace: Annotated[float, Parameter(validator=Number(gte=0), metavar="SECONDS")] = 30.0
    """Seconds that running attempts have to finish when the worker stops."""
    max_jobs: Limit = None
    """Attempts after which a worker process ends, and is replaced if it is one of several."""
    max_memory: Annotated[Limit, Parameter(metavar="MIB")] = None
    """Memory (RSS) over which a worker process ends, and is replaced if it is one of several."""
    max_jobs_per_child: Limit = None
    """Attempts after which a child process for process=True functions is replaced."""
    max_memory_per_child: Annotated[Limit, Parameter(metavar="MIB")] = None
    """Memory (RSS) over which a child process for process=True functions is replaced."""

    @property
    def for_reload(self) -> dict[str, object]:
        """Those of a worker that a change of a file stops: it gives back at once what it runs."""
        return asdict(replace(self, grace=0, max_jobs=None, max_memory=None))

    @property
    def is_recycled(self) -> bool:
        """Whether a worker process ends by itself, so that another has to start it again."""
        return self.max_jobs is not None or self.max_memory is not None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BurstOptions:
    """Options of a worker that ends when nothing is left to run."""

    burst: Flag = False
    """Run what is ready until nothing is ready or running, then exit; what is due later is left."""
    fail_if_failed: Flag = False
    """With --burst: exit with 1 if an attempt failed and is not retried."""
    report: Annotated[Path | None, Parameter(show=False)] = None
    """File to which a worker process appends a line with its `Report`."""

    @property
    def of_command(self) -> dict[str, bool]:
        """Those of the command, not of each of its processes."""
        return {"burst": self.burst, "fail_if_failed": self.fail_if_failed}

    def check(self, *, reload: bool) -> None:
        """Raise `UsageError` for options that do not go together."""
        if self.fail_if_failed and not self.burst:
            raise UsageError("--fail-if-failed needs --burst: a worker that runs on has no end to tell it at")
        if self.burst and reload:
            raise UsageError("--burst ends when nothing is left to run: leave out --reload")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """The server of a worker that has no store."""

    server: Annotated[str | None, Parameter(metavar="URL")] = None
    """Get the jobs from this server, over HTTP, instead of from a store (default: RAINCHECK_SERVER)."""
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """File with the token for the server; read again when it is refused (default: RAINCHECK_TOKEN)."""

    def with_environment(self, app_options: AppOptions) -> RemoteOptions:
        """These options, with the server that the environment names unless a store is named.

        Raises `UsageError`.
        """
        if self.server is not None and app_options.store is not None:
            raise UsageError("pass --server or --store, not both: a worker of a server needs no store")
        has_store = app_options.store is not None or app_options.child
        server = self.server or (None if has_store else os.environ.get("RAINCHECK_SERVER")) or None
        if server is None and self.token_file is not None:
            raise UsageError("--token-file needs --server: a store takes no token")
        return replace(self, server=server)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """Options of all commands that run an app."""

    store: Annotated[str | None, Parameter(metavar="URL")] = None
    """URL of the store (default: that of the app)."""
    config: Annotated[str | None, Parameter(metavar="FILE")] = None
    """Configuration file (default: that of the app, RAINCHECK_CONFIG or raincheck.yaml)."""
    log_level: Annotated[Level, Parameter(env_var="RAINCHECK_LOG_LEVEL")] = "info"
    """Lowest level to log, on stderr."""
    log_format: Annotated[Format, Parameter(env_var="RAINCHECK_LOG_FORMAT")] = "text"
    """Format of the log: lines of text, or one JSON object per line."""
    reload: Flag = False
    """Restart when a Python or YAML file in the folder of the app changes; running attempts start again."""
    child: Annotated[bool, Parameter(show=False)] = False
    """Read the store's URL from stdin, and stop at its end (`raincheck.cli.runner`)."""


def serve(
    target: str,
    /,
    *,
    server_options: ServerOptions = ServerOptions(),
    workers: AtLeastOne = 1,
    worker_options: WorkerOptions = WorkerOptions(),
    app_options: AppOptions = AppOptions(),
) -> int:
    """Run the HTTP server and the workers of an app.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    workers
        Number of workers; several, and those with a limit, run in processes that are replaced when they end.
    """
    if app_options.reload:
        options = asdict(server_options) | {"workers": workers} | worker_options.for_reload
        return _run_with_reload("serve", target, options, app_options)
    app = _load_app(target, app_options, runs_functions=True)
    in_this_process = workers == 1 and not worker_options.is_recycled
    if not in_this_process:
        _check_shared(app, "workers in processes of their own cannot share it")
    print_summary(app, server_options, worker_options.functions)
    children = _worker_processes(app, target, worker_options, app_options)
    processes = WorkerProcesses(children, workers)

    async def work(stop: asyncio.Event) -> None:
        if in_this_process:
            await run_in_thread(_worker(app, worker_options), stop)
        else:
            await processes.run(stop)

    started_at = now()

    async def registered() -> None:
        while not processes.any_failed:
            pids = {os.getpid()} if in_this_process else children.pids
            if await _count_registered(app, pids, started_at) >= workers:
                return
            await asyncio.sleep(_POLL_INTERVAL)

    async def main(stop: asyncio.Event) -> None:
        async with app, asyncio.TaskGroup() as group:
            group.create_task(work(stop))
            await _listen(app, server_options, stop, registered)

    return _run(main, app_options, worker_options.grace, processes)


def server(
    target: str,
    /,
    *,
    server_options: ServerOptions = ServerOptions(),
    app_options: AppOptions = AppOptions(),
) -> int:
    """Run the HTTP server of an app, without workers.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    """
    if app_options.reload:
        return _run_with_reload("server", target, asdict(server_options), app_options)
    app = _load_app(target, app_options)
    _check_shared(app, "no worker can reach it. Run `raincheck serve`, which has a worker in its process")
    print_summary(app, server_options)

    async def main(stop: asyncio.Event) -> None:
        async with app:
            await _listen(app, server_options, stop)

    return _run(main, app_options, 0)


def worker(
    target: str,
    /,
    *,
    processes: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    worker_options: WorkerOptions = WorkerOptions(),
    burst_options: BurstOptions = BurstOptions(),
    remote_options: RemoteOptions = RemoteOptions(),
    app_options: AppOptions = AppOptions(),
) -> int:
    """Run a worker of an app, without the HTTP server.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    processes
        Worker processes to run, each replaced when it ends (default: one worker, in this process).
    """
    burst_options.check(reload=app_options.reload)
    remote = remote_options.with_environment(app_options)
    if app_options.reload:
        options = {"processes": processes} | worker_options.for_reload | asdict(remote)
        return _run_with_reload("worker", target, options, app_options)
    app = _load_app(target, app_options, runs_functions=True)
    if remote.server is None:
        _check_shared(app, "no server can reach it. Run `raincheck serve`, which has a worker in its process")
    if not app_options.child:
        print_summary(app, patterns=worker_options.functions, remote=remote)
        where = "" if processes is None else f" in {processes} process{'es' * (processes > 1)}, each with"
        out.print(f"Working{where or ','} up to {worker_options.concurrency} attempts at once.")
    if processes is not None:
        return _supervise(app, target, processes, worker_options, burst_options, remote, app_options)
    return _run_worker(app, worker_options, burst_options, remote, app_options)


def _run_worker(
    app: App,
    worker_options: WorkerOptions,
    burst_options: BurstOptions,
    remote: RemoteOptions,
    app_options: AppOptions,
) -> int:
    """Run a worker in this process until a signal, or until it ends by itself."""
    from raincheck.cli.burst import end_of_process, end_of_worker

    work = _worker if remote.server is None else partial(_remote_worker, remote=remote)
    reports: list[Report] = []

    async def main(stop: asyncio.Event) -> None:
        async with _opened(app, remote):
            reports.append(await work(app, worker_options, burst=burst_options.burst)(stop))

    _run(main, app_options, worker_options.grace)
    if app_options.child:
        return end_of_process(reports[0], burst_options.report)
    return end_of_worker(reports[0], **burst_options.of_command)


FIRST_ROUTES = ("POST /v1/job", "GET /v1/job/{id}", "POST /v1/function/{name:path}", "GET /docs")
"""What a new user needs: create a job, get it, call a function, read about all other routes."""


def print_summary(
    app: App,
    server_options: ServerOptions | None = None,
    patterns: Sequence[str] = (),
    remote: RemoteOptions = RemoteOptions(),
) -> None:
    """Print the routes if there is a server, where the jobs of an app are, and its functions, or those that
    workers offer. Raises `ConfigError`."""
    functions = app.functions.select(patterns)
    if server_options is not None:
        _print_routes(server_options.routes)
    offering = f"Offering {len(functions)} of" if patterns else "Having"
    out.print(f"{offering} {len(app.functions)} function(s):")
    for function in functions:
        out.print(f"    - {plain(function.name)}", soft_wrap=True)
    where = f"Store: {mask(app.url)}" if remote.server is None else f"Server: {remote.server}"
    out.print(plain(where), soft_wrap=True)


def _print_routes(every: bool) -> None:
    """Print the first routes to know, or all of them."""
    from raincheck.server import ROUTES

    for path, methods in ROUTES.items():
        for method in methods:
            if every or f"{method} {path}" in FIRST_ROUTES:
                out.print(f"{method:6} {path.replace(':path}', '}')}", soft_wrap=True)


def _load_app(target: str, options: AppOptions, *, runs_functions: bool = False) -> App:
    """Load the app, and set its store and its configuration file from the options.

    Raises `TargetError` if a worker is to run its functions, and it has none.
    """
    set_up_logging(options.log_level, options.log_format)
    app = load(target)
    app.config = options.config or app.config
    app.engine.read_config()  # its functions are shown, and are enough
    if runs_functions and not len(app.functions):
        raise TargetError(
            f"{target} has no functions, so a worker has nothing to run. Decorate functions with "
            "@app.function, import the modules that do so, declare functions in raincheck.yaml, or run the "
            "API alone with `raincheck server`."
        )
    app.url = (read_first_line() if options.child else options.store) or app.url
    return app


def _check_shared(app: App, why: str) -> None:
    """Raise `StoreUnusable` with ``why`` if the store is in memory."""
    if is_in_memory(app.url):
        raise StoreUnusable(needs_a_file(app.url, why))


def _run(main: Main, options: AppOptions, grace: float, processes: WorkerProcesses | None = None) -> int:
    """Run ``main`` until a signal; in a child, also until the parent stops it."""

    async def child(stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        call_when_parent_stops(lambda: loop.call_soon_threadsafe(stop.set))
        await main(stop)

    kill = (lambda: None) if processes is None else processes.kill
    code = run_until_signal(child if options.child else main, grace=grace, kill=kill)
    return Exit.FAILED if processes is not None and processes.is_failing else code


async def _no_workers() -> None:
    """The workers of a server without workers are always registered."""


async def _listen(
    app: App,
    options: ServerOptions,
    stop: asyncio.Event,
    registered: Callable[[], Awaitable[None]] = _no_workers,
) -> None:
    """Serve the app until ``stop`` is set.

    Print its URL once it listens and ``registered`` has returned, at most `REGISTRATION_TIMEOUT` later.
    """
    from raincheck.server import serve as listen

    if app.auth is None or options.secret_file or options.users:
        app.auth = options.auth
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def announce() -> None:
        listening_at = await url
        with suppress(TimeoutError):
            async with asyncio.timeout(REGISTRATION_TIMEOUT):
                await registered()
        _print_listening(listening_at, signs_in=app.auth is not None, insecure=options.insecure)
        freeze_startup_objects()

    async with asyncio.TaskGroup() as group:
        announcement = group.create_task(announce())
        try:
            await listen(
                app.engine,
                options.host,
                options.port,
                stop=stop,
                started=url.set_result,
                title=app.title,
                auth=app.auth,
                allowed_origins=app.allowed_origins,
                insecure=options.insecure,
                access_log=options.access_log,
                drain=options.drain,
            )
        finally:
            announcement.cancel()


def _print_listening(url: str, *, signs_in: bool, insecure: bool) -> None:
    """Print who can call the server, and its URL."""
    if signs_in:
        out.print("Callers must sign in: raincheck login.")
        if not ip_address(urlsplit(url).hostname or "").is_loopback:
            warn("connections are not encrypted. Put a reverse proxy with TLS in front of the server.")
    elif insecure:
        warn("open to everyone who can reach this address: no sign-in is configured")
    else:
        out.print("Open to all users of this machine: no sign-in is configured.")
    out.print(Text.assemble("Listening and serving HTTP on ", (url, "bold")), soft_wrap=True)


async def _count_registered(app: App, pids: Collection[int], since: float) -> int:
    """How many of these processes have a registered worker that started at ``since`` or later.

    0 if the store is unavailable.
    """
    try:
        workers = await app.engine.workers.read()
    except StoreError:
        return 0
    host = socket.gethostname()
    own = {each.pid for each in workers if each.host == host and each.started_at >= since}
    return len(own & set(pids))


def _worker(
    app: App, options: WorkerOptions, *, burst: bool = False
) -> Callable[[asyncio.Event], Awaitable[Report]]:
    from raincheck.worker import Worker

    async def work(stop: asyncio.Event) -> Report:
        return await Worker(app, **asdict(options), burst=burst).run(stop)

    return work


def _remote_worker(
    app: App, options: WorkerOptions, *, burst: bool, remote: RemoteOptions
) -> Callable[[asyncio.Event], Awaitable[Report]]:
    from raincheck.cli.connection import token_for
    from raincheck.worker import Worker

    server = remote.server or ""

    def token() -> str:
        return token_for(server, remote.token_file) or ""

    async def work(stop: asyncio.Event) -> Report:
        given = token if await asyncio.to_thread(token) else None
        worker = Worker(app, **asdict(options), burst=burst, server=server, token=given)
        try:
            return await worker.run(stop)
        except NotSignedIn as error:
            error.add_note("Pass a token with the scope worker: --token-file FILE, or RAINCHECK_TOKEN.")
            raise

    return work


def _worker_processes(
    app: App,
    target: str,
    worker_options: WorkerOptions,
    app_options: AppOptions,
    others: Mapping[str, object] = MappingProxyType({}),
) -> Children:
    """The processes that run a worker each."""
    command = _child_command("worker", target, {**asdict(worker_options), **others}, app_options)
    return Children(command, app.url, worker_options.grace)


def _supervise(
    app: App,
    target: str,
    count: int,
    worker_options: WorkerOptions,
    burst_options: BurstOptions,
    remote: RemoteOptions,
    app_options: AppOptions,
) -> int:
    """Keep worker processes running until a signal; if they run what is ready, until nothing is."""
    from raincheck.cli.burst import end_of_worker, read_reports, report_file

    with report_file(burst=burst_options.burst) as file:
        others = asdict(remote) | {"burst": burst_options.burst, "report": file}
        children = _worker_processes(app, target, worker_options, app_options, others)
        processes = WorkerProcesses(children, count, burst=burst_options.burst)

        async def main(stop: asyncio.Event) -> None:
            async with _opened(app, remote):  # an error of the store is one of this command
                pass
            await processes.run(stop)

        code = _run(main, app_options, worker_options.grace, processes)
        return code or end_of_worker(read_reports(file), **burst_options.of_command)


def _opened(app: App, remote: RemoteOptions) -> AbstractAsyncContextManager[object]:
    """The app with its store open, if its worker has one."""
    return app if remote.server is None else nullcontext()


def _run_with_reload(command: str, target: str, options: dict[str, object], app_options: AppOptions) -> int:
    from raincheck.cli.reload import run_with_reload

    set_up_logging(app_options.log_level, app_options.log_format)
    return run_with_reload(
        target, _child_command(command, target, options, app_options), app_options.store or ""
    )


def _child_command(
    command: str, target: str, options: dict[str, object], app_options: AppOptions
) -> list[str]:
    """The command line of a child that runs the same app; the store's URL is not part of it."""
    shared = {
        "log-level": app_options.log_level,
        "log-format": app_options.log_format,
        "config": app_options.config,
    }
    words = [sys.executable, "-m", "raincheck", command, target, "--child"]
    for name, value in {**options, **shared}.items():
        for each in value if isinstance(value, tuple) else (value,):
            if each is True:
                words.append(f"--{name.replace('_', '-')}")
            elif each is not None and each is not False:
                words.append(f"--{name.replace('_', '-')}={each}")
    return words
