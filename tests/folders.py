"""Where tests put their files: in memory where there is such a folder, on disk where durability is tested."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3
"""Free bytes that a folder in memory must have; a container may give it 64 MiB."""

_DISK = "TESTS_DISK"


def use_memory() -> None:
    """Let all temporary files be made in memory from now on, also those of child processes.

    Whoever sets TMPDIR has chosen another folder.
    """
    os.environ.setdefault(_DISK, tempfile.gettempdir())  # of the first process: later ones find TMPDIR set
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


@contextmanager
def on_disk() -> Iterator[Path]:
    """A folder on a real disk; its name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rc-", dir=os.environ[_DISK], ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def quick() -> Iterator[Path]:
    """A folder that need not outlive a power cut; its name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as name:
        yield Path(name)
