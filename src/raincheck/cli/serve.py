"""Commands that run things: serve, server, worker."""

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
from raincheck.cli.children import Children, first_line, when_the_parent_stops
from raincheck.cli.logs import set_up_logging
from raincheck.cli.options import Level
from raincheck.cli.running import Main, in_thread, run, settle
from raincheck.cli.target import load
from raincheck.cli.terminal import out, plain, warn
from raincheck.store import mask

AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Flag = Annotated[bool, Parameter(show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the server listens."""

    host: Annotated[str, Parameter(env_var="RAINCHECK_HOST")] = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Parameter(env_var="RAINCHECK_PORT", validator=Number(gte=0, lte=65535))] = 8000
    """The port to listen on; 0 takes a free one."""
    insecure: Flag = False
    """Listen on an address that others can reach, though no sign-in is configured."""
    secret_file: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Have callers sign in: the secret or keys in this file sign tokens, instead of RAINCHECK_SECRET_FILE."""
    users: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """The users who may sign in, instead of those in RAINCHECK_USERS."""

    @property
    def auth(self) -> Auth | None:
        """The sign-in that options and the environment ask for."""
        said = {"RAINCHECK_SECRET_FILE": self.secret_file, "RAINCHECK_USERS": self.users}
        options = {name: str(path) for name, path in said.items() if path is not None}
        return Auth.from_environment(os.environ | options)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Working:
    """How the workers work."""

    concurrency: AtLeastOne = 100
    """How many attempts a worker runs at once."""
    processes: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """How many of them in processes of their own, for functions that want one; one a core if not said."""
    lease: Annotated[float, Parameter(validator=Number(gte=1), metavar="SECONDS")] = 15.0
    """After how long others take over what a worker ran that died."""
    grace: Annotated[float, Parameter(validator=Number(gte=0), metavar="SECONDS")] = 30.0
    """How long running attempts get to end when it is told to stop."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """What all that runs an app can be told."""

    store: Annotated[str | None, Parameter(metavar="URL")] = None
    """The URL of the store, instead of the app's own."""
    config: Annotated[str | None, Parameter(metavar="FILE")] = None
    """The file that declares groups, instead of the app's own (RAINCHECK_CONFIG, else raincheck.yaml)."""
    log_level: Level = "info"
    """How much to log, on stderr."""
    child: Annotated[bool, Parameter(show=False)] = False
    """The store's URL comes by stdin, whose end says to stop (`raincheck.cli.children`)."""


def serve(
    target: str,
    /,
    *,
    listening: Listening = Listening(),
    workers: AtLeastOne = 1,
    working: Working = Working(),
    common: Common = Common(),
) -> int:
    """Serve an app: the HTTP API and its workers.

    Parameters
    ----------
    target
        The app, as module:app or path/to/file.py:app.
    workers
        How many worker processes; a single one is a thread of this process.
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
    """Serve the HTTP API of an app; workers run elsewhere.

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
    """Run the functions of an app, without the HTTP API.

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
        when_the_parent_stops(lambda: loop.call_soon_threadsafe(stop.set))
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
            out.print("Callers have to sign in: raincheck login.")
            if not ip_address(urlsplit(url).hostname or "").is_loopback:
                warn("passwords and tokens can be read on the way: put something in front that speaks TLS")
        elif listening.insecure:
            warn("open to everybody who can reach it: no sign-in is configured")
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
