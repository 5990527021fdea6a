"""A server for workers that connect over HTTP. It has no functions, and a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from raincheck import App, Auth
from raincheck.server import serve
from tests.client.servers import in_thread
from tests.servers import free_port


class Site:
    """A server of a store, at a port that it keeps when it is started again."""

    def __init__(self, store: str, auth: Auth | None = None) -> None:
        self.store = store
        self.auth = auth
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app, stop = App(self.store), asyncio.Event()
        listening = asyncio.get_running_loop().create_future()
        async with app:
            serving = asyncio.create_task(
                serve(app.engine, "127.0.0.1", self.port, stop, listening.set_result, auth=self.auth)
            )
            await listening
            yield
            stop.set()
            await serving

    async def start(self) -> None:
        """Start it, in a thread."""
        self._running = in_thread(self._serving())
        await asyncio.to_thread(self._running.__enter__)

    async def stop(self) -> None:
        """Stop it."""
        await asyncio.to_thread(self._running.__exit__, None, None, None)


@asynccontextmanager
async def site(store: str, auth: Auth | None = None) -> AsyncIterator[Site]:
    """A running server."""
    running = Site(store, auth)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
