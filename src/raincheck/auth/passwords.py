"""Hashes and checks passwords with argon2, in a small pool of threads."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from raincheck.core.errors import Fault, InvalidInput, TooManyAttempts

MAX_CONCURRENT = 2
"""Checks that run at the same time. Each takes 64 MiB and a large part of a second of CPU."""

MAX_PENDING = 20
"""Checks that run or wait for a thread."""

MIN_LENGTH, MAX_LENGTH = 8, 1024
"""Limits of the length of a password, in characters."""


def hash_password(password: str) -> str:
    """Hash a password. Raises `InvalidInput` if it is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidInput(
            Fault(f"a password must have {MIN_LENGTH} to {MAX_LENGTH} characters", "/password")
        )
    return PasswordHasher().hash(password)


class Passwords:
    """Checks passwords against hashes, without blocking the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._dummy_hash = _make_dummy_hash(self._hasher)
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="raincheck-argon2")
        self._pending = 0

    async def check(self, password: str, hashed: str | None) -> bool:
        """Whether the password has this hash. Without a hash the result is False, after the same time.

        Raises `TooManyAttempts` if too many checks are pending.
        """
        if self._pending >= MAX_PENDING:
            raise TooManyAttempts("too many sign-ins at the same time. Try again in 2 s.", retry_after=2)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._check, password, hashed)
        finally:
            self._pending -= 1

    def _check(self, password: str, hashed: str | None) -> bool:
        try:
            self._hasher.verify(hashed or self._dummy_hash, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False
        return hashed is not None


def _make_dummy_hash(hasher: PasswordHasher) -> str:
    """A hash that no password has. It costs as much to check as a current one."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${_zeros(hasher.salt_len)}${_zeros(hasher.hash_len)}"


def _zeros(count: int) -> str:
    return b64encode(bytes(count)).rstrip(b"=").decode()
