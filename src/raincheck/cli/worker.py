"""The command worker: one in this process, or several in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from raincheck.app import App
from raincheck.cli.options import AppOptions, BurstOptions, RemoteOptions, WorkerOptions
from raincheck.cli.runner import WorkerProcesses
from raincheck.cli.serve import (
    check_shared,
    load_app,
    local_worker,
    print_summary,
    run_app,
    run_reloading,
    worker_processes,
)
from raincheck.cli.terminal import out
from raincheck.core.errors import NotSignedIn

if TYPE_CHECKING:
    from raincheck.worker.lifetime import Report


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
        return run_reloading("worker", target, options, app_options)
    app = load_app(target, app_options, runs_functions=True)
    if remote.server is None:
        check_shared(app, "no server can reach it. Run `raincheck serve`, which has a worker in its process")
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

    work = local_worker if remote.server is None else partial(_remote_worker, remote=remote)
    reports: list[Report] = []

    async def main(stop: asyncio.Event) -> None:
        async with _opened(app, remote):
            reports.append(await work(app, worker_options, burst=burst_options.burst)(stop))

    run_app(main, app_options, worker_options.grace)
    if app_options.child:
        return end_of_process(reports[0], burst_options.report)
    return end_of_worker(reports[0], **burst_options.of_command)


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
        children = worker_processes(app, target, worker_options, app_options, others)
        processes = WorkerProcesses(children, count, burst=burst_options.burst)

        async def main(stop: asyncio.Event) -> None:
            async with _opened(app, remote):  # an error of the store is one of this command
                pass
            await processes.run(stop)

        code = run_app(main, app_options, worker_options.grace, processes)
        return code or end_of_worker(read_reports(file), **burst_options.of_command)


def _opened(app: App, remote: RemoteOptions) -> AbstractAsyncContextManager[object]:
    """The app with its store open, if its worker has one."""
    return app if remote.server is None else nullcontext()
