"""Limits failed sign-ins, to make guessing passwords impractical."""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

from raincheck.core.clock import monotonic
from raincheck.core.errors import TooManyAttempts

MINUTE = 60.0
FAILURES_PER_USER = 5
"""Failed attempts of one address for one user: this many at once, then this many per minute."""

FAILURES_PER_ADDRESS = 50
"""Failed attempts of one address for all users together."""

MAX_BUCKETS = 10_000
"""Buckets that are kept in memory."""


class Throttle:
    """Counts failed attempts in leaky buckets, by user and address and by address alone."""

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
