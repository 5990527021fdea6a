"""A server of bytes: it records what it receives, and answers as a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


class Request(NamedTuple):
    """A request; the names of ``headers`` are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """What a server has received so far, and its port."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = 0
        """How many connections have been closed by the client."""
        self.port = 0

    @property
    def url(self) -> str:
        """Its URL, with a literal address."""
        return f"http://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[Receiver], bool]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(60):
            while not condition(self):  # noqa: ASYNC110 - a condition of any kind
                await asyncio.sleep(0.01)


def response(
    body: bytes = b"null", *headers: str, status: str = "200 OK", kind: str = "application/json"
) -> bytes:
    """The bytes of a response."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"Content-Type: {kind}", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def answering(content: bytes) -> Answer:
    """Answers each request with the same bytes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)

    return answer


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    return Request(head[0], headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def until_closed(reader: asyncio.StreamReader, answer: Awaitable[None]) -> None:
    """Answer, until the client closes the connection."""
    answering, closing = asyncio.ensure_future(answer), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait([answering, closing], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ConnectionError
        await answering
    finally:
        answering.cancel()
        closing.cancel()
        await asyncio.gather(answering, closing, return_exceptions=True)


@asynccontextmanager
async def receiving(
    answer: Answer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Run a server whose requests are answered by ``answer``."""
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        receiver.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    request = await read_request(reader)
                    receiver.requests.append(request)
                    await until_closed(reader, answer(request, writer))
                    await writer.drain()
            receiver.closed += 1
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
