"""Passwords: hashed and checked with argon2, a few at a time, in threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from raincheck.errors import Fault, InvalidInput, TooManyAttempts

AT_ONCE = 2
"""Checks at a time: each takes 64 MiB and a good part of a second of a core."""

WAITING = 20
"""Checks that may wait for their turn."""

SHORTEST, LONGEST = 8, 1024
"""Characters of a password."""


def hash_password(password: str) -> str:
    """The hash to keep of a password. Raises `InvalidInput` if it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidInput(Fault(f"a password has {SHORTEST} to {LONGEST} characters", "/password"))
    return PasswordHasher().hash(password)


class Passwords:
    """Checks passwords against hashes, off the loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="raincheck-argon2")
        self._waiting = 0

    async def prepare(self) -> None:
        """Make ready what the first check would otherwise take the time for."""
        await asyncio.get_running_loop().run_in_executor(self._pool, getattr, self, "_nobodys")

    async def check(self, password: str, hashed: str | None) -> bool:
        """Whether it is the one of this hash; without a hash, for nobody, it takes as long to say no.

        Raises `TooManyAttempts` if too many others wait.
        """
        if self._waiting >= WAITING:
            raise TooManyAttempts("many others are signing in", retry_after=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._check, password, hashed)
        finally:
            self._waiting -= 1

    def _check(self, password: str, hashed: str | None) -> bool:
        try:
            self._hasher.verify(hashed or self._nobodys, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False
        return hashed is not None

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash("the password of nobody")
