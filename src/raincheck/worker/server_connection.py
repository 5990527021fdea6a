"""The requests of a worker to its server, on the event loop and from the heartbeat thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from raincheck.client.asynchronous.sender import AsyncSender
from raincheck.client.blocking.sender import Sender
from raincheck.client.requests import Request
from raincheck.client.responses import Reply
from raincheck.core.errors import NotFound
from raincheck.core.model import Claim
from raincheck.engine.remote.protocol import Registered

logger = logging.getLogger("raincheck.worker")

TIMEOUT = 15.0
"""Seconds that the server may take to respond on the loop, in addition to the wait of a claim."""

PATIENCE = 10.0
"""Seconds for which a worker that starts tries to reach the server."""

Token = str | Callable[[], str] | None
"""The token to send, or a function that reads it, also when the server refuses it; it may block."""


class ServerClaim(Claim, frozen=True):
    """A claim of an attempt that the server knows by ``id``, made by a registration of this worker."""

    id: str
    worker: Registered


class ServerConnection:
    """The requests of one worker, and its registration: ``worker`` is None while the server does not know it.

    Each request is sent once: the callers know when to try again. One from a thread takes at most ``most``
    seconds.
    """

    worker: Registered | None = None
    state = "active"
    """The state of the worker that the server was told last."""

    def __init__(self, url: str, token: Token, most: float) -> None:
        from_thread = token if token is None or isinstance(token, str) else _from_thread(token)
        self._sender = AsyncSender(
            url, token=from_thread, login=None, patience=PATIENCE, timeout=TIMEOUT, http=None
        )
        self._blocking = Sender(url, token=token, login=None, patience=0.0, timeout=most, http=None)

    async def register(self, body: Mapping[str, Any], patience: float) -> Registered:
        """Register the worker; tries for ``patience`` seconds. Raises `RaincheckError`."""
        request = Request(method="POST", path="/v1/worker", body=_encode(body))
        self.worker = (await self._sender.send(request, patience)).read(Registered)
        return self.worker

    async def call(self, worker: Registered, operation: str, body: Any, wait: float = 0.0) -> Reply:
        """``POST /v1/worker/{id}/{operation}``. Raises `RaincheckError`; `NotFound`: register again."""
        try:
            return await self._sender.send(_request(worker, operation, body, wait), 0.0)
        except NotFound:
            self._forget(worker)
            raise

    def call_from_thread(self, worker: Registered, operation: str, body: Any) -> Reply:
        """The same from a thread."""
        try:
            return self._blocking.send(_request(worker, operation, body, 0.0))
        except NotFound:
            self._forget(worker)
            raise

    def leave(self) -> None:
        """``DELETE /v1/worker/{id}``, from a thread. Raises `RaincheckError`."""
        worker, self.worker = self.worker, None
        if worker is not None:
            path = f"/v1/worker/{worker.id}"
            self._blocking.send(Request(method="DELETE", path=path, worker_token=worker.token))

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.aclose()
        await asyncio.to_thread(self._blocking.close)

    def _forget(self, worker: Registered) -> None:
        if self.worker is worker:
            self.worker = None
            logger.warning(
                "the server does not know this worker any more: it registers again, and its attempts are "
                "dropped, as they run elsewhere"
            )


def _from_thread(read: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    async def token() -> str:
        return await asyncio.to_thread(read)

    return token


def _request(worker: Registered, operation: str, body: Any, wait: float) -> Request:
    path = f"/v1/worker/{worker.id}/{operation}"
    return Request(method="POST", path=path, body=_encode(body), wait=wait, worker_token=worker.token)


_encode = msgspec.json.Encoder().encode
