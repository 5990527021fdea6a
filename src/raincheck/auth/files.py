"""Files with secrets: permissions are checked, writes are atomic, and changes are noticed."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from raincheck.core.errors import ConfigError

logger = logging.getLogger("raincheck.auth")

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024
"""Maximum size of a file."""

Version = tuple[int, ...]


def read_private(path: Path) -> bytes:
    """Read a file. Refuses a file writable by others; warns if it is readable by others.

    Container platforms make secrets readable by others, so this is not an error. Raises `ConfigError`.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} is writable by others. Run: chmod 600 {path}")
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("%s is readable by others. Run: chmod 600 %s", path, path)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes. Is it the right file?")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file atomically, readable and writable by its owner only.

    Raises `ConfigError`; the previous content remains then.
    """
    path = path.resolve()  # write through a symbolic link
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file against changes by other processes, on platforms that can: no change gets lost."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = path.resolve().with_name(f".{path.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class WatchedFile(Generic[T]):
    """The parsed content of a file, updated by `refresh`.

    ``parse`` parses the content; ``absent`` makes the value if the file does not exist. If a changed
    file is not valid, the previous value remains, and an error is logged.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], T], absent: Callable[[], T] | None = None
    ) -> None:
        self.path = path
        self._parse = parse
        self._absent = absent
        self._version: Version | None = None
        self.value: T

    async def load(self) -> None:
        """Read the file for the first time. Raises `ConfigError`."""
        self.value, self._version = await asyncio.to_thread(self._read)

    async def refresh(self) -> bool:
        """Read the file if it has changed; returns whether the value is new."""
        version = await asyncio.to_thread(_version, self.path)
        if version == self._version:
            return False
        try:
            self.value, self._version = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._version = version  # log the error only once
            logger.error("%s (the previous content of the file remains in use)", error)
            return False
        return True

    def _read(self) -> tuple[T, Version | None]:
        version = _version(self.path)  # taken first: the next refresh sees a change during the read
        if version is None and self._absent is not None:
            return self._absent(), None
        content = read_private(self.path)
        try:
            return self._parse(content), version
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None


def _version(path: Path) -> Version | None:
    """A value that changes with the file; None if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
