"""The options of the commands that run an app."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from raincheck.auth import Auth
from raincheck.cli.exit_codes import UsageError
from raincheck.logs import Format, Level

Limit = Annotated[int | None, Parameter(validator=Number(gte=1))]
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Flag = Annotated[bool, Parameter(show_default=False)]


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
