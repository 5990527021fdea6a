"""The keys that an issuer elsewhere publishes, as a JWK set at a URL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx2

from raincheck.auth.keys import Keys, from_issuer
from raincheck.clock import monotonic
from raincheck.errors import ConfigError, StoreUnavailable

logger = logging.getLogger("raincheck.auth")

FRESH = 60.0
"""Seconds after which the keys are fetched again, so that a revoked one is soon unknown."""

PAUSE = 10.0
"""Seconds between two fetches at least, whatever ids tokens name."""

PATIENCE = 5.0
LARGEST = 256 * 1024


class Issuer:
    """The keys behind a URL: fetched when needed, kept when they cannot be; ``changed`` is told of others."""

    def __init__(self, url: str, algorithm: str, changed: Callable[[], None]) -> None:
        _check(url)
        self.keys = Keys()
        self._changed = changed
        self._content = b""
        self._url = url
        self._algorithm = algorithm
        self._fetched = -FRESH
        self._tried = -PAUSE
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Have the keys fetched if they are old; who has some need not wait for others."""
        if not len(self.keys):
            await self.fetch()
        elif monotonic() - self._fetched >= FRESH:
            self._fetching = asyncio.create_task(self.fetch())

    async def fetch(self) -> None:
        """Fetch the keys, unless that was tried just now.

        Raises `StoreUnavailable` if there are none at all.
        """
        async with self._lock:
            if monotonic() - self._tried >= PAUSE:
                await self._fetch()
        if not len(self.keys):
            raise StoreUnavailable("the issuer's keys cannot be fetched")

    async def _fetch(self) -> None:
        self._tried = monotonic()
        try:
            content = await _get(self._url)
            keys = from_issuer(content, self._algorithm)
        except (httpx2.HTTPError, TimeoutError, ConfigError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("the keys at %s cannot be fetched: %s", self._url, reason)
            return
        self._fetched = self._tried
        if content != self._content:
            self._content, self.keys = content, keys
            self._changed()


async def _get(url: str) -> bytes:
    content = b""
    made = await asyncio.to_thread(httpx2.AsyncClient, follow_redirects=False)  # it reads certificates
    async with (
        asyncio.timeout(PATIENCE),
        made as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != 200:
            raise ConfigError(f"the answer is {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > LARGEST:
                raise ConfigError(f"the answer has more than {LARGEST} bytes")
    return content


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ConfigError("the URL of the issuer's keys is no URL") from None
    if parts.username or parts.password:
        raise ConfigError("the URL of the issuer's keys must hold no password")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))):
        raise ConfigError(f"the issuer's keys must come by https, not from {url}")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
