"""The command line: a command parses, calls the HTTP API or runs an app, and prints.

Commands are named here and loaded when they run, so that ``raincheck --help`` is quick.
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
   0  done
   1  the job failed or was cancelled
   2  bad usage or bad input: a 4xx answer
   3  no such job, function or group, or it is gone
   4  no server, or one that cannot do it now: a 5xx answer, or 429
   5  the wait was over before the job was
 130  Ctrl-C
"""

_NUMBER = re.compile(r"-?[\d.]+")

_RUN, _ASK, _LOOK, _SIGN_IN, _MORE = (
    Group.create_ordered(name) for name in ("Run", "Ask", "Look", "Sign in", "More")
)

_COMMANDS = {
    "serve": ("serve", _RUN, "Serve an app: the HTTP API and its workers."),
    "server": ("serve", _RUN, "Serve the HTTP API of an app; workers run elsewhere."),
    "worker": ("serve", _RUN, "Run the functions of an app, without the HTTP API."),
    "demo": ("demo", _RUN, "Show raincheck at work: a server, two workers, a job."),
    "call": ("submit", _ASK, "Call a function, and print its result."),
    "submit": ("submit", _ASK, "Submit a job, and print its id."),
    "group": ("groups", _ASK, "Trigger a group, and print the id of its run."),
    "cancel": ("jobs", _ASK, "Stop a job."),
    "retry": ("jobs", _ASK, "Let a failed or cancelled job go on where it ended."),
    "status": ("jobs", _LOOK, "Show a job as it is now."),
    "watch": ("jobs", _LOOK, "Follow a job live until it ends."),
    "jobs": ("lists", _LOOK, "List jobs, newest first."),
    "functions": ("lists", _LOOK, "List the functions that can be called."),
    "groups": ("groups", _LOOK, "List the groups."),
    "workers": ("lists", _LOOK, "List the workers."),
    "login": ("login", _SIGN_IN, "Sign in to a server, for the commands that follow."),
    "logout": ("login", _SIGN_IN, "Forget the token for a server."),
    "token": ("login", _SIGN_IN, "Print the token that commands send, for other programs."),
    "counts": ("lists", _LOOK, "Count the jobs by state, and what waits by function."),
    "schedules": ("schedules", _LOOK, "List the schedules."),
    "schedule": ("schedules", _LOOK, "Show a schedule, or pause, resume, run or delete it."),
    "check": ("groups", _MORE, "Check a configuration file, and print what is wrong with it."),
    "version": ("about", _MORE, "Print the version of raincheck and of what it stands on."),
    "install-completion": ("about", _MORE, "Let the shell complete commands and options."),
}

_FAMILIES = {
    "user": (
        "Look after the users of a server.",
        {
            "add": ("users:add", "Add a user."),
            "list": ("users:list_users", "List the users."),
            "remove": ("users:remove", "Remove a user, whose tokens are refused from now on."),
        },
    ),
    "key": (
        "Look after the keys that a server signs tokens with.",
        {
            "add": ("keys:add", "Add a key, that signs from now on; what older ones signed still holds."),
            "list": ("keys:list_keys", "List the keys; the first one signs."),
            "remove": ("keys:remove", "Remove a key: what it signed no longer holds."),
        },
    ),
}
"""Commands that belong together, and are reached by two words."""

cli = App(
    "raincheck",
    "Turn Python functions into a durable asynchronous REST API.",
    version=VERSION,
    help_format="rich",
    help_epilogue=_EXIT_CODES,
    default_parameter=Parameter(negative=""),
    group_commands=_MORE,
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
    """Run a command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # scripts wait for lines; no encoding shall end a command
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    words = list(_with_waits(sys.argv[1:] if arguments is None else arguments))
    try:
        return int(cli(words, error_formatter=_complaint) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        code = _explain(error)
        if code is None:
            raise
        return code


def _explain(error: BaseException) -> int | None:
    """Say on stderr what went wrong; the exit code for it, or None if it is no error of ours."""
    from raincheck.cli.exits import code_of
    from raincheck.cli.terminal import complain
    from raincheck.errors import RaincheckError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, RaincheckError):
        return None
    complain(error)
    return code_of(error)


def _with_waits(words: Sequence[str]) -> Iterator[str]:
    """Give ``--wait`` that no number follows the value that the parser wants: to the end."""
    options = True
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        options = options and word != "--"
        yield "--wait=inf" if options and word == "--wait" and not _NUMBER.fullmatch(following) else word


def _complaint(error: CycloptsError) -> Text:
    """Bad usage, in the form of all other errors."""
    from rich.text import Text

    command = " ".join(["raincheck", *(error.command_chain or ())])
    return Text.assemble(("Error: ", "bold red"), error.__rich__(), (f"\nSee {command} --help", "dim"))
