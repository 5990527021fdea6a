"""A proxy between a store and its server, that cuts a connection in the middle of one command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SIZE = 1 << 20


class Proxy:
    """Passes on what it gets; ``cuts`` counts the connections that it has cut."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._word: bytes | None = None
        self._forward = False
        self.port = 0
        self.cuts = 0

    def cut(self, word: bytes, *, after: bool) -> None:
        """Cut the connection on which a command with this word comes next.

        ``after`` it was carried out, in place of its answer; else before the server hears of it.
        """
        self._word, self._forward = word, after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        marked = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(SIZE):
                if self._word is not None and self._word in data:
                    self._word = None
                    marked.set()
                    if not self._forward:
                        return
                server_writer.write(data)
                await server_writer.drain()

        async def answers() -> None:
            while (data := await server_reader.read(SIZE)) and not marked.is_set():
                writer.write(data)
                await writer.drain()

        both = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        self.cuts += marked.is_set()
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, server_writer):
            end.transport.abort()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    """A proxy for a server on this machine, listening on its own ``port``."""
    made = Proxy(port)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made
        listening.close()
