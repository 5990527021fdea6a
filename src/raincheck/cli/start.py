"""The first steps: ``raincheck init``, and how the user started this command."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from raincheck.cli.exit_codes import Exit, UsageError
from raincheck.cli.terminal import out, plain

FILE = "app.py"
_STARTER = "starter.py"


def init(file: Path = Path(FILE), /) -> int:
    """Write a file with an app to start from.

    Parameters
    ----------
    file
        The file; it must not exist.
    """
    starter = resources.files("raincheck.cli").joinpath(_STARTER).read_text("utf-8")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(starter)
    except FileExistsError:
        raise UsageError(f"the file {file} exists. Choose another name: raincheck init NAME.py") from None
    except OSError as error:
        raise UsageError(f"the file {file} cannot be written: {error.strerror}") from error
    out.print(
        f"Wrote {plain(str(file))}. Serve it: {own_command()} serve {_quoted(str(file))}", soft_wrap=True
    )
    return Exit.OK


def own_command() -> str:
    """The words that start raincheck again from here, as this process was started.

    A tool that runs a package without installing it (``uvx``, ``pipx run``) has a temporary environment,
    which is not on the path of the user's shell.
    """
    environment = Path(sys.prefix)
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        return "uv run raincheck"
    if "UV" in os.environ:
        return "uvx raincheck"
    if (environment / "pipx_metadata.json").is_file() and environment.parent.name != "venvs":
        return "pipx run raincheck"
    program = Path(sys.argv[0])
    if program.stem == "raincheck":
        return _shortest("raincheck", program)
    return f"{_shortest('python', Path(sys.executable))} -m raincheck"


def _shortest(name: str, program: Path) -> str:
    """``name`` if the shell finds this program by it, else its path, from here if it is below."""
    path, found = program.absolute(), shutil.which(name)
    if found is not None and Path(found).with_suffix("") == path.with_suffix(""):  # on Windows: .exe
        return name
    here = Path.cwd()
    return _quoted(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _quoted(word: str) -> str:
    return f'"{plain(word)}"' if " " in word else plain(word)
