"""Passwords: hashed and checked with argon2, a few at a time, in threads."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

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
        self._nobodys = _of_nobody(self._hasher)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="raincheck-argon2")
        self._waiting = 0

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


def _of_nobody(hasher: PasswordHasher) -> str:
    """A hash that no password has, and that takes as long to check as those that are made now."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${_zeros(hasher.salt_len)}${_zeros(hasher.hash_len)}"


def _zeros(count: int) -> str:
    return b64encode(bytes(count)).rstrip(b"=").decode()
