"""Commands that run an app: serve, server, worker."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from raincheck.app import App
from raincheck.auth import Auth
from raincheck.cli.event_loop import Main, in_thread, run, settle
from raincheck.cli.logs import set_up_logging
from raincheck.cli.options import Level
from raincheck.cli.target import load
from raincheck.cli.terminal import out, plain, warn
from raincheck.cli.worker_processes import Children, call_when_parent_stops, first_line
from raincheck.store import mask

AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Flag = Annotated[bool, Parameter(show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Listening:
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

    @property
    def auth(self) -> Auth | None:
        """The sign-in that the options and the environment configure; None if they do not."""
        options = {"RAINCHECK_SECRET_FILE": self.secret_file, "RAINCHECK_USERS": self.users}
        given = {name: str(path) for name, path in options.items() if path is not None}
        return Auth.from_environment(os.environ | given)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Working:
    """Options of a worker."""

    concurrency: AtLeastOne = 100
    """Attempts that a worker runs at the same time."""
    processes: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """Child processes for process=True functions (default: CPU count)."""
    lease: Annotated[float, Parameter(validator=Number(gte=1), metavar="SECONDS")] = 15.0
    """Seconds before a dead worker's jobs are taken over."""
    grace: Annotated[float, Parameter(validator=Number(gte=0), metavar="SECONDS")] = 30.0
    """Seconds that running attempts have to finish when the worker stops."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of all commands that run an app."""

    store: Annotated[str | None, Parameter(metavar="URL")] = None
    """URL of the store (default: that of the app)."""
    config: Annotated[str | None, Parameter(metavar="FILE")] = None
    """Configuration file (default: that of the app, RAINCHECK_CONFIG or raincheck.yaml)."""
    log_level: Level = "info"
    """Lowest level to log, on stderr."""
    child: Annotated[bool, Parameter(show=False)] = False
    """Read the store's URL from stdin, and stop at its end (`raincheck.cli.worker_processes`)."""


def serve(
    target: str,
    /,
    *,
    listening: Listening = Listening(),
    workers: AtLeastOne = 1,
    working: Working = Working(),
    common: Common = Common(),
) -> int:
    """Run the HTTP server and the workers of an app.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    workers
        Number of workers; one runs in this process, several run in processes of their own.
    """
    app = _set_up(target, common)
    _introduce(app)
    children = Children(_worker_command(target, working, common), app.url, workers, working.grace)

    async def work(stop: asyncio.Event) -> None:
        if workers == 1:
            await in_thread(_worker(app, working), stop)
        else:
            await children.run(stop)

    async def main(stop: asyncio.Event) -> None:
        async with app, asyncio.TaskGroup() as group:
            group.create_task(work(stop))
            await _listen(app, listening, stop)

    return _run(main, common, working.grace, children.kill)


def server(target: str, /, *, listening: Listening = Listening(), common: Common = Common()) -> int:
    """Run the HTTP server of an app, without workers.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    """
    app = _set_up(target, common)
    _introduce(app)

    async def main(stop: asyncio.Event) -> None:
        async with app:
            await _listen(app, listening, stop)

    return _run(main, common, 0)


def worker(target: str, /, *, working: Working = Working(), common: Common = Common()) -> int:
    """Run a worker of an app, without the HTTP server.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    """
    app = _set_up(target, common)
    if not common.child:
        _introduce(app)
        out.print(f"Working, up to {working.concurrency} attempts at once.")

    work = _worker(app, working)

    async def main(stop: asyncio.Event) -> None:
        async with app:
            await work(stop)

    return _run(main, common, working.grace)


def _set_up(target: str, common: Common) -> App:
    set_up_logging(common.log_level)
    app = load(target)
    app.config = common.config or app.config
    app.url = (first_line() if common.child else common.store) or app.url
    return app


def _run(main: Main, common: Common, grace: float, at_once: Callable[[], None] = lambda: None) -> int:
    async def child(stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        call_when_parent_stops(lambda: loop.call_soon_threadsafe(stop.set))
        await main(stop)

    return run(child if common.child else main, grace=grace, at_once=at_once)


def _introduce(app: App) -> None:
    out.print(f"Having {len(app.functions)} function(s):")
    for name in app.functions.names:
        out.print(f"    - {plain(name)}", soft_wrap=True)
    out.print(f"Store: {plain(mask(app.url))}", soft_wrap=True)


async def _listen(app: App, listening: Listening, stop: asyncio.Event) -> None:
    from raincheck.server import serve as listen

    if app.auth is None or listening.secret_file or listening.users:
        app.auth = listening.auth

    def started(url: str) -> None:
        if app.auth is not None:
            out.print("Callers must sign in: raincheck login.")
            if not ip_address(urlsplit(url).hostname or "").is_loopback:
                warn("connections are not encrypted. Put a reverse proxy with TLS in front of the server.")
        elif listening.insecure:
            warn("open to everyone who can reach this address: no sign-in is configured")
        else:
            out.print("Open to all users of this machine: no sign-in is configured.")
        out.print(Text.assemble("Listening and serving HTTP on ", (url, "bold")), soft_wrap=True)
        settle()

    await listen(
        app.engine,
        listening.host,
        listening.port,
        stop=stop,
        started=started,
        title=app.title,
        auth=app.auth,
        insecure=listening.insecure,
    )


def _worker(app: App, working: Working) -> Main:
    from raincheck.worker import Worker

    async def work(stop: asyncio.Event) -> None:
        await Worker(app, **asdict(working)).run(stop)

    return work


def _worker_command(target: str, working: Working, common: Common) -> list[str]:
    options = {**asdict(working), "log-level": common.log_level, "config": common.config}
    command = [sys.executable, "-m", "raincheck", "worker", target, "--child"]
    return [*command, *(f"--{name}={value}" for name, value in options.items() if value is not None)]
