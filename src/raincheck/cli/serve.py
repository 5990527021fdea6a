"""The commands serve and server, and what all commands that run an app do."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.text import Text

from raincheck.app import App
from raincheck.cli.exit_codes import Exit
from raincheck.cli.options import AppOptions, AtLeastOne, RemoteOptions, ServerOptions, WorkerOptions
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
from raincheck.core.errors import StoreError, StoreUnusable, TargetError
from raincheck.store import is_in_memory, mask, needs_a_file

if TYPE_CHECKING:
    from raincheck.worker.lifetime import Report

REGISTRATION_TIMEOUT = 5.0
"""Seconds that ``serve`` waits for its workers to register before it says that it listens."""

_POLL_INTERVAL = 0.02
"""Seconds between two looks at the registered workers."""


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
        return run_reloading("serve", target, options, app_options)
    app = load_app(target, app_options, runs_functions=True)
    in_this_process = workers == 1 and not worker_options.is_recycled
    if not in_this_process:
        check_shared(app, "workers in processes of their own cannot share it")
    print_summary(app, server_options, worker_options.functions)
    children = worker_processes(app, target, worker_options, app_options)
    processes = WorkerProcesses(children, workers)

    async def work(stop: asyncio.Event) -> None:
        if in_this_process:
            await run_in_thread(local_worker(app, worker_options), stop)
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

    return run_app(main, app_options, worker_options.grace, processes)


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
        return run_reloading("server", target, asdict(server_options), app_options)
    app = load_app(target, app_options)
    check_shared(app, "no worker can reach it. Run `raincheck serve`, which has a worker in its process")
    print_summary(app, server_options)

    async def main(stop: asyncio.Event) -> None:
        async with app:
            await _listen(app, server_options, stop)

    return run_app(main, app_options, 0)


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


def load_app(target: str, options: AppOptions, *, runs_functions: bool = False) -> App:
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


def check_shared(app: App, why: str) -> None:
    """Raise `StoreUnusable` with ``why`` if the store is in memory."""
    if is_in_memory(app.url):
        raise StoreUnusable(needs_a_file(app.url, why))


def run_app(main: Main, options: AppOptions, grace: float, processes: WorkerProcesses | None = None) -> int:
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


def local_worker(
    app: App, options: WorkerOptions, *, burst: bool = False
) -> Callable[[asyncio.Event], Awaitable[Report]]:
    from raincheck.worker import Worker

    async def work(stop: asyncio.Event) -> Report:
        return await Worker(app, **asdict(options), burst=burst).run(stop)

    return work


def worker_processes(
    app: App,
    target: str,
    worker_options: WorkerOptions,
    app_options: AppOptions,
    others: Mapping[str, object] = MappingProxyType({}),
) -> Children:
    """The processes that run a worker each."""
    command = _child_command("worker", target, {**asdict(worker_options), **others}, app_options)
    return Children(command, app.url, worker_options.grace)


def run_reloading(command: str, target: str, options: dict[str, object], app_options: AppOptions) -> int:
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
