"""Slows down who guesses passwords."""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

from raincheck.clock import monotonic
from raincheck.errors import TooManyAttempts

MINUTE = 60.0
FAILURES = 5
"""Wrong passwords that one address may send for one user, at once; then as many a minute."""

OF_ADDRESS = 50
"""Those that it may send for all users together."""

KNOWN = 10_000
"""How many users and addresses are remembered."""


class Throttle:
    """Counts failed attempts, that are forgotten in time: full buckets that leak."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def attempt(self, username: str, address: str) -> None:
        """Count an attempt as failed until it is known better. Raises `TooManyAttempts`.

        It is counted before the password is looked at, so that many at once gain nothing.
        """
        now, host = monotonic(), _network(address)
        for key, most in (((host, username), FAILURES), ((host, ""), OF_ADDRESS)):
            level = self._level(key, most, now)
            if level > most - 1:
                wait = math.ceil((level - most + 1) * MINUTE / most)
                raise TooManyAttempts(f"too many wrong passwords: try again in {wait} s", retry_after=wait)
        for key, most in (((host, username), FAILURES), ((host, ""), OF_ADDRESS)):
            self._put(key, self._level(key, most, now) + 1, now)

    def succeeded(self, username: str, address: str) -> None:
        """The attempt was no failure: forget those that came before it."""
        host = _network(address)
        self._buckets.pop((host, username), None)
        if (host, "") in self._buckets:
            level, at = self._buckets[host, ""]
            self._buckets[host, ""] = max(0.0, level - 1), at

    def _level(self, key: tuple[str, str], most: int, now: float) -> float:
        level, at = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - at) * most / MINUTE)

    def _put(self, key: tuple[str, str], level: float, now: float) -> None:
        self._buckets[key] = level, now
        self._buckets.move_to_end(key)
        if len(self._buckets) > KNOWN:
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    """An address, or of IPv6 the network that a single household has."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return str(ip_network(f"{known}/64", strict=False))
    return str(known)
