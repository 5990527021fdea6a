"""Commands about the installation: version, install-completion."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from raincheck.cli.exit_codes import Exit
from raincheck.cli.terminal import out, print_json
from raincheck.version import VERSION

Shell = Literal["bash", "fish", "powershell", "zsh"]


def version(*, json: Annotated[bool, Parameter(show_default=False)] = False) -> int:
    """Print the versions of raincheck, Python and SQLite.

    Parameters
    ----------
    json
        Print the versions as JSON.
    """
    apsw_version = metadata.version("apsw")  # the version of SQLite, and the release of apsw for it
    versions = {
        "raincheck": VERSION,
        "python": platform.python_version(),
        "sqlite": apsw_version.rpartition(".")[0],
        "platform": platform.platform(terse=True),
    }
    if json:
        print_json(msgspec.json.encode(versions))
    else:
        for name, value in versions.items():
            out.print(f"{name:10}{value}")
    return Exit.OK


def install_completion(*, shell: Shell | None = None) -> int:
    """Install shell completion for commands and options.

    Parameters
    ----------
    shell
        The shell (default: detected).
    """
    from cyclopts.completion.install import create_install_completion_command

    from raincheck.cli import cli

    create_install_completion_command(cli.install_completion, add_to_startup=True)(shell=shell)
    return Exit.OK
