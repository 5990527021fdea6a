"""The command line. A command runs an app, or calls the HTTP API of a server.

This module only names the commands; each is imported when it runs, to keep the start quick.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import zip_longest
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Group, Parameter

from raincheck.version import VERSION

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["main"]

_EXIT_CODES = """
[dim]Exit codes[/]
   0  success
   1  the job failed or was cancelled, a check failed, or workers kept dying
   2  invalid usage or input: a 4xx response
   3  job, function or group not found
   4  no response, or the server is unavailable: a 5xx response, or 429
   5  the wait ended before the job
 130  Ctrl-C, or the answer no
"""

_NUMBER = re.compile(r"-?[\d.]+")
_NEGATIVE = re.compile(r"-\.?\d")

_RUN, _CONTROL, _INSPECT, _SIGN_IN, _OTHER = (
    Group.create_ordered(name) for name in ("Run", "Control", "Inspect", "Sign in", "Other")
)

_COMMANDS = {
    "serve": ("serve", _RUN, "Run the HTTP server and the workers of an app."),
    "server": ("serve", _RUN, "Run the HTTP server of an app, without workers."),
    "worker": ("worker", _RUN, "Run a worker of an app, without the HTTP server."),
    "demo": ("demo", _RUN, "Run a demo: a server, two workers and a job."),
    "init": ("start", _RUN, "Write a file with an app to start from."),
    "call": ("jobs", _CONTROL, "Call a function and print its result."),
    "submit": ("jobs", _CONTROL, "Submit a job and print its id."),
    "group": ("groups", _CONTROL, "Trigger a group and print the id of its run."),
    "cancel": ("jobs", _CONTROL, "Cancel a job, or all unfinished jobs that match the options."),
    "retry": ("jobs", _CONTROL, "Resume a failed or cancelled job, or all that match the options."),
    "rm": ("jobs", _CONTROL, "Delete an ended job, or all that match the options."),
    "status": ("jobs", _INSPECT, "Show a job."),
    "watch": ("jobs", _INSPECT, "Watch a job until it ends."),
    "top": ("top", _INSPECT, "Show throughput, queues, workers and the latest failures, until q or Ctrl-C."),
    "jobs": ("listings", _INSPECT, "List jobs, newest first."),
    "functions": ("listings", _INSPECT, "List functions."),
    "groups": ("groups", _INSPECT, "List groups."),
    "workers": ("listings", _INSPECT, "List workers."),
    "login": ("sign_in", _SIGN_IN, "Sign in to a server."),
    "logout": ("sign_in", _SIGN_IN, "Delete the stored token of a server."),
    "token": ("sign_in", _SIGN_IN, "Print the token that commands send to a server."),
    "counts": ("listings", _INSPECT, "Count jobs by state, and queued steps by function."),
    "schedules": ("schedules", _INSPECT, "List schedules."),
    "schedule": ("schedules", _INSPECT, "Show, pause, resume, run or delete a schedule."),
    "check": ("groups", _OTHER, "Check a configuration file and print its errors."),
    "worker-check": ("worker_check", _OTHER, "Check that a worker program speaks the worker protocol."),
    "version": ("installation", _OTHER, "Print the versions of raincheck, Python and SQLite."),
    "install-completion": ("installation", _OTHER, "Install shell completion for commands and options."),
}

_FAMILIES = {
    "user": (
        "Manage the users of a server.",
        {
            "add": ("sign_in:add_user", "Add a user."),
            "list": ("sign_in:list_users", "List users."),
            "remove": ("sign_in:remove_user", "Remove a user and invalidate their tokens."),
        },
    ),
    "key": (
        "Manage the keys that a server signs tokens with.",
        {
            "add": ("sign_in:add_key", "Add a key that signs all new tokens. Existing tokens stay valid."),
            "list": ("sign_in:list_keys", "List keys. The first one signs new tokens."),
            "remove": ("sign_in:remove_key", "Remove a key and invalidate the tokens signed with it."),
        },
    ),
}
"""Commands with two words."""

cli = App(
    "raincheck",
    "Turn Python functions into a durable asynchronous REST API.",
    version=VERSION,
    help_format="rich",
    help_epilogue=_EXIT_CODES,
    default_parameter=Parameter(negative=""),
    group_commands=_OTHER,
    result_action="return_value",
)

for _name, (_module, _group, _help) in _COMMANDS.items():
    _function = _name.replace("-", "_")
    _target = f"raincheck.cli.{_module}:{_function}"
    cli.command(_target, name=_name, group=_group, help=_help, help_epilogue="")


for _name, (_help, _members) in _FAMILIES.items():
    _family = App(_name, _help, group=_SIGN_IN, help_epilogue="")
    cli.command(_family)
    for _member, (_target, _help) in _members.items():
        _family.command(f"raincheck.cli.{_target}", name=_member, help=_help, help_epilogue="")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # scripts read lines at once; no character ends a command
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    words = [_Value(word) if _NEGATIVE.match(word) else word for word in _fill_in_waits(arguments)]
    try:
        return int(cli(words, error_formatter=_format_usage_error) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of stdout has closed it, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        code = _print_error(error)
        if code is None:
            raise
        return code


def _print_error(error: BaseException) -> int | None:
    """Print an error of raincheck on stderr; returns its exit code, or None for any other error."""
    from raincheck.cli.exit_codes import code_of
    from raincheck.cli.terminal import print_error
    from raincheck.core.errors import RaincheckError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, RaincheckError):
        return None
    print_error(error)
    return code_of(error)


def _fill_in_waits(words: Sequence[str]) -> Iterator[str]:
    """Replace a ``--wait`` without a number by ``--wait=inf``: the parser requires a value."""
    options = True
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        options = options and word != "--"
        yield "--wait=inf" if options and word == "--wait" and not _NUMBER.fullmatch(following) else word


class _Value(str):
    """A word such as -1,2, which the parser would take for an option; none of ours begins with a digit."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:  # the parser asks whether it begins with a dash
        return False


def _format_usage_error(error: CycloptsError) -> Text:
    """A usage error in the format of all other errors."""
    from rich.text import Text

    command = " ".join(["raincheck", *(error.command_chain or ())])
    return Text.assemble(("Error: ", "bold red"), error.__rich__(), (f"\nSee {command} --help", "dim"))
