"""The keys of an external issuer, published as a JWK set at a URL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx2

from raincheck.auth.keys import Keys, keys_from_issuer
from raincheck.core.clock import monotonic
from raincheck.core.errors import ConfigError, StoreUnavailable

logger = logging.getLogger("raincheck.auth")

REFRESH_AFTER = 60.0
"""Seconds after which the keys are fetched again: a revoked key is refused soon."""

MIN_INTERVAL = 10.0
"""Minimum seconds between two fetches, even if tokens name unknown keys."""

TIMEOUT = 5.0
"""Seconds that a fetch can take."""

MAX_BYTES = 256 * 1024
"""Maximum size of the JWK set."""


class Issuer:
    """Fetches the keys at a URL, and keeps them if a later fetch fails. Calls ``changed`` for new keys."""

    def __init__(self, url: str, algorithm: str, changed: Callable[[], None]) -> None:
        _check_url(url)
        self.keys = Keys()
        self._changed = changed
        self._content = b""
        self._url = url
        self._algorithm = algorithm
        self._fetched_at = -REFRESH_AFTER
        self._tried_at = -MIN_INTERVAL
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Fetch the keys if they are old: in the background, unless there are none yet."""
        if not len(self.keys):
            await self.fetch()
        elif monotonic() - self._fetched_at >= REFRESH_AFTER:
            self._fetching = asyncio.create_task(self.fetch())

    async def fetch(self) -> None:
        """Fetch the keys, unless the last attempt was less than `MIN_INTERVAL` seconds ago.

        Raises `StoreUnavailable` if there are no keys at all.
        """
        async with self._lock:
            if monotonic() - self._tried_at >= MIN_INTERVAL:
                await self._fetch()
        if not len(self.keys):
            raise StoreUnavailable("cannot fetch the issuer's keys. The server's log has the reason.")

    async def _fetch(self) -> None:
        self._tried_at = monotonic()
        try:
            content = await _get(self._url)
            keys = keys_from_issuer(content, self._algorithm)
        except (httpx2.HTTPError, TimeoutError, ConfigError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("cannot fetch the keys at %s: %s", self._url, reason)
            return
        self._fetched_at = self._tried_at
        if content != self._content:
            self._content, self.keys = content, keys
            self._changed()


async def _get(url: str) -> bytes:
    content = b""
    http = await asyncio.to_thread(httpx2.AsyncClient, follow_redirects=False)  # reads certificates
    async with (
        asyncio.timeout(TIMEOUT),
        http as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != 200:
            raise ConfigError(f"the response is {response.status_code}, not 200")
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_BYTES:
                raise ConfigError(f"the response is larger than {MAX_BYTES} bytes")
    return content


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ConfigError("the JWKS URL is not valid") from None
    if parts.username or parts.password:
        raise ConfigError("the JWKS URL must not contain a username or password")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))):
        raise ConfigError(f"the JWKS URL must begin with https:// (got {url})")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
