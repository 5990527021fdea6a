"""Runs a command again after each change of the app's files: ``serve --reload``, ``worker --reload``.

The command runs in a child process, because Python cannot safely import a changed module again. If a file has
an error, the child prints it and ends; the next change starts a new child.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from raincheck.cli.exit_codes import UsageError
from raincheck.cli.runner import Children, Main, run_until_signal
from raincheck.cli.target import folder_of
from raincheck.cli.terminal import note

if TYPE_CHECKING:
    from watchfiles import Change

_EXTENSIONS = (".yaml", ".yml")
"""Files that an app reads, besides its Python files."""


def run_with_reload(target: str, command: Sequence[str], first_line: str) -> int:
    """Run ``command`` until a signal, and start it again when a file of ``target`` changes.

    The child gets no time for running attempts: it gives them back, and the next child runs them again.
    Raises `UsageError` if watchfiles is not installed, and `TargetError` if the file does not exist.
    """
    try:
        import watchfiles  # noqa: F401 - said before the first child starts
    except ImportError:
        raise UsageError(
            "--reload needs the package watchfiles. Install it: pip install 'raincheck[reload]'"
        ) from None
    # bytecode would hide a second change within a second, if the file keeps its size
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    children = Children(command, first_line, grace=0)
    return run_until_signal(_keep_running(folder_of(target), children), grace=0, kill=children.kill)


def _keep_running(folder: Path, children: Children) -> Main:
    async def main(stop: asyncio.Event) -> None:
        from watchfiles import PythonFilter, awatch

        files = PythonFilter(extra_extensions=_EXTENSIONS)
        note(f"Watching {folder} for changes.")
        async with aclosing(
            awatch(folder, watch_filter=files, stop_event=stop, ignore_permission_denied=True)
        ) as changes:
            while not stop.is_set():
                changed = asyncio.ensure_future(anext(changes, set[tuple["Change", str]]()))
                await _run_until(changed, children)
                _say_what_changed(changed.result(), folder)

    return main


async def _run_until(changed: asyncio.Future[set[tuple[Change, str]]], children: Children) -> None:
    """Run one child, until a file has changed or the command is stopped."""
    stop_child = asyncio.Event()
    changed.add_done_callback(lambda _: stop_child.set())
    code = await children.run_one(stop_child)
    if not changed.done():
        note(f"Ended with exit code {code}. Waiting for a change.")
    await changed


def _say_what_changed(changes: set[tuple[Change, str]], folder: Path) -> None:
    if changes:
        names = sorted({str(Path(path).relative_to(folder)) for _, path in changes})
        note(f"Restarting: {', '.join(names[:3])}{' and others' if names[3:] else ''} changed.")
