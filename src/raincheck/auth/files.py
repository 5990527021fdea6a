"""Files that hold secrets: read with care, written for their owner alone, read again when they change."""

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

from raincheck.errors import ConfigError

logger = logging.getLogger("raincheck.auth")

T = TypeVar("T")

LARGEST = 4 * 1024 * 1024
"""Bytes of the largest file that is read."""

Version = tuple[int, ...]


def read_private(path: Path) -> bytes:
    """What a file holds. Raises `ConfigError` if it cannot be read, or others may write it.

    That others may read it is only warned of: container platforms hand out secrets so.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"others may write {path}: chmod 600 {path}")
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("others may read %s: chmod 600 %s", path, path)
    if len(content) > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST} bytes: it is no such file")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Put a file with this content in the place of ``path``, at once, for its owner alone.

    Raises `ConfigError`, and then what was there is still there.
    """
    path = path.resolve()  # a link stays a link
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
        _sync(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep others who change this file waiting, where the platform can: two changes must not lose one."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = path.resolve().with_name(f".{path.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Watched(Generic[T]):
    """What a file says, as of the last time it was looked at.

    ``parse`` makes it of the content; ``absent`` is what a file that is not there says. A file that
    changed into one that cannot be used leaves all as it was, and is complained of in the log.
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
        """Read it for the first time. Raises `ConfigError`."""
        self.value, self._version = await asyncio.to_thread(self._read)

    async def refresh(self) -> bool:
        """Look at it; whether it says something else now."""
        version = await asyncio.to_thread(_version, self.path)
        if version == self._version:
            return False
        try:
            self.value, self._version = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._version = version  # complain once
            logger.error("%s; what it said before still holds", error)
            return False
        return True

    def _read(self) -> tuple[T, Version | None]:
        version = _version(self.path)  # before reading: a change between the two is seen next time
        if version is None and self._absent is not None:
            return self._absent(), None
        content = read_private(self.path)
        try:
            return self._parse(content), version
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None


def _version(path: Path) -> Version | None:
    """Changes when the file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
