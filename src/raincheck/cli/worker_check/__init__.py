"""``raincheck worker-check``: starts a worker program and tries it against the worker protocol."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from raincheck.cli.connection import VARIABLE, token_for
from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.own_server import own_server
from raincheck.cli.terminal import new_table, out, plain, show
from raincheck.cli.worker_check.checks import CHECKS, Check
from raincheck.cli.worker_check.program import Program, running
from raincheck.cli.worker_check.proxy import Proxy, proxy_of
from raincheck.cli.worker_check.rules import broken_rules
from raincheck.cli.worker_check.trial import FUNCTIONS, Failed, Skipped, Trial
from raincheck.client import AsyncClient
from raincheck.core.clock import monotonic

_NAME_WIDTH = max(len(check.name) for check in CHECKS)


class Server(NamedTuple):
    """The server that the worker is checked with, and the token for it."""

    url: str
    token: str | None


def worker_check(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    url: Annotated[str | None, Parameter(metavar="URL")] = None,
    token_file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    only: Annotated[tuple[str, ...], Parameter(metavar="NAME")] = (),
    timeout: Annotated[float, Parameter(validator=Number(gt=0), metavar="SECONDS")] = 60.0,
    list_: Annotated[bool, Parameter(name="--list", show_default=False)] = False,
) -> int:
    """Check that a worker program speaks the worker protocol.

    Starts the program once for each check, with RAINCHECK_SERVER and RAINCHECK_TOKEN in its environment.

    Parameters
    ----------
    command
        The command that starts the worker, after ``--``.
    url
        URL of the server (default: an own server with a new SQLite file).
    token_file
        File with a token of that server (default: RAINCHECK_TOKEN, else the token of raincheck login).
    only
        Run this check only; can be repeated.
    timeout
        Seconds that the worker has for each step of a check.
    list_
        Print the checks and what they expect.
    """
    checks = _choose(only)
    if list_:
        table = new_table("NAME", "THE WORKER")
        for check in checks:
            table.add_row(check.name, check.expected)
        show(table)
        return Exit.OK
    if not command:
        raise UsageError("the command that starts the worker is missing: raincheck worker-check -- COMMAND")
    with _server(url, token_file) as server:
        return asyncio.run(_run(checks, command, server, timeout))


def _choose(names: Sequence[str]) -> list[Check]:
    known = {check.name: check for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no check {unknown[0]!r}: the checks are {', '.join(known)}")
    return [check for check in CHECKS if not names or check.name in names]


@contextmanager
def _server(url: str | None, token_file: Path | None) -> Iterator[Server]:
    if url is not None:
        yield Server(url, token_for(url, token_file))
        return
    with (
        TemporaryDirectory(prefix="raincheck-", ignore_cleanup_errors=True) as folder,
        own_server(Path(folder), "server", f"{__name__}.app:app") as own_url,
    ):
        yield Server(own_url, None)


async def _run(checks: Sequence[Check], command: Sequence[str], server: Server, timeout: float) -> int:
    """Run the checks, print a line for each and a summary; returns the exit code."""
    await _check_server(server)
    started_at = monotonic()
    results: list[str] = []
    for check in checks:
        result = await _run_one(check, command, server, timeout)
        results.append(result)
        if result == "failed" and check is CHECKS[0] and len(checks) > 1:
            out.print("The other checks did not run: each needs a worker that registers.")
            break
    counts = ", ".join(f"{results.count(each)} {each}" for each in ("ok", "skipped", "failed"))
    out.print(f"{counts} in {monotonic() - started_at:.0f} s")
    return Exit.FAILED if "failed" in results else Exit.OK


async def _check_server(server: Server) -> None:
    """Raise `Unreachable` or `NotAllowed` if the server does not accept calls, and `UsageError` if another
    worker of it would get the jobs of the checks."""
    async with AsyncClient(server.url, token=server.token, patience=0.0) as client:
        for worker in await client.workers():
            offered = sorted(set(worker.functions).intersection(FUNCTIONS))
            if offered and worker.state != "unhealthy":
                what = f"the worker {worker.id} of {server.url} offers {offered[0]} already"
                raise UsageError(f"{what}. Stop it, or leave out --url.")


async def _run_one(check: Check, command: Sequence[str], server: Server, timeout: float) -> str:
    """Run one check with a new process of the worker, and print its line; returns ok, skipped or failed."""
    started_at = monotonic()
    async with (
        proxy_of(server.url, check.lease) as proxy,
        AsyncClient(server.url, token=server.token) as client,
        running(command, _environment(proxy.url, server.token)) as program,
    ):
        trial = Trial(proxy, program, client, timeout)
        try:
            await check.run(trial)
            for failed in _broken(proxy, server):
                raise failed
        except Skipped as skipped:
            _print("skipped", "yellow", check, str(skipped))
            return "skipped"
        except Failed as failed:
            _print("failed", "red", check, f"{monotonic() - started_at:.1f} s")
            _explain([failed, *_broken(proxy, server)], check, program)
            return "failed"
        finally:
            await program.kill()
            await trial.clean_up()
    _print("ok", "green", check, f"{monotonic() - started_at:.1f} s")
    return "ok"


def _broken(proxy: Proxy, server: Server) -> list[Failed]:
    """The rules that the calls have broken, each once."""
    found = dict(broken_rules(proxy.calls, server.token))
    return [Failed(expected, happened) for expected, happened in found.items()]


def _environment(url: str, token: str | None) -> dict[str, str]:
    """The environment of the worker: this one, with the server and the token as its only settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAINCHECK_")}
    return inherited | {"RAINCHECK_SERVER": url} | ({} if token is None else {VARIABLE: token})


def _print(result: str, style: str, check: Check, note: str) -> None:
    line = (
        (f"{result:8}", style),
        (f"{check.name:{_NAME_WIDTH}}  ", "bold"),
        check.expected,
        ("  " + plain(note), "dim"),
    )
    out.print(Text.assemble(*line), soft_wrap=True)


def _explain(failures: Sequence[Failed], check: Check, program: Program) -> None:
    """Print what was expected and what happened instead, what to read, and what the worker printed."""
    lines = []
    for expected, happened in {failed.expected: failed.happened for failed in failures}.items():
        lines += [("expected", expected), ("happened", happened)]
    lines += [("read", check.read), *(("output", line) for line in program.output)]
    for label, text in lines:
        out.print(Text.assemble(" " * 8, (f"{label}: ", "dim"), plain(text)), soft_wrap=True)
