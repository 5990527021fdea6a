"""Passwords: hashed and checked with argon2 in a small thread pool; wrong ones are limited by a throttle."""

from __future__ import annotations

import asyncio
import math
from base64 import b64encode
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address, ip_network

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from raincheck.core.clock import monotonic
from raincheck.core.errors import Fault, InvalidInput, TooManyAttempts

MAX_CONCURRENT = 2
"""Checks that run at the same time. Each takes 64 MiB and a large part of a second of CPU."""

MAX_PENDING = 20
"""Checks that run or wait for a thread."""

MIN_LENGTH, MAX_LENGTH = 8, 1024
"""Limits of the length of a password, in characters."""

MINUTE = 60.0
FAILURES_PER_USER = 5
"""Failed attempts of one address for one user: this many at once, then this many per minute."""

FAILURES_PER_ADDRESS = 50
"""Failed attempts of one address for all users together."""

MAX_BUCKETS = 10_000
"""Buckets that are kept in memory."""


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


class Throttle:
    """Limits failed sign-ins, to make guessing passwords impractical.

    It counts them in leaky buckets, by user and address and by address alone.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def attempt(self, username: str, address: str) -> None:
        """Count an attempt as failed, before its password is checked. Raises `TooManyAttempts`.

        Counting first keeps concurrent attempts within the limit. `succeeded` takes the count back.
        """
        now, network = monotonic(), _network(address)
        limits = (((network, username), FAILURES_PER_USER), ((network, ""), FAILURES_PER_ADDRESS))
        for key, limit in limits:
            level = self._level(key, limit, now)
            if level > limit - 1:
                wait = math.ceil((level - limit + 1) * MINUTE / limit)
                raise TooManyAttempts(f"too many wrong passwords. Try again in {wait} s.", retry_after=wait)
        for key, limit in limits:
            self._put(key, self._level(key, limit, now) + 1, now)

    def succeeded(self, username: str, address: str) -> None:
        """Take back the last attempt, and clear the failures of the user."""
        network = _network(address)
        self._buckets.pop((network, username), None)
        if (network, "") in self._buckets:
            level, at = self._buckets[network, ""]
            self._buckets[network, ""] = max(0.0, level - 1), at

    def _level(self, key: tuple[str, str], limit: int, now: float) -> float:
        level, at = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - at) * limit / MINUTE)

    def _put(self, key: tuple[str, str], level: float, now: float) -> None:
        self._buckets[key] = level, now
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    """The address, or for IPv6 its /64 network: one caller can have all addresses in it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network(f"{parsed}/64", strict=False))
    return str(parsed)
