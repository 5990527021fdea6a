"""The ways to a server: unix sockets, passwords and users, TLS; and what we rely on in redis-py."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from raincheck.core.errors import StoreUnavailable
from raincheck.store import make_store
from raincheck.store.valkey.address import make_pool, parse
from tests.contract.steps import done
from tests.servers import Server, server

LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
NewLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="rc-") as name:
        yield Path(name)


@pytest.fixture
def own(folder: Path) -> Iterator[Server]:
    """A server with a socket in the folder."""
    with server(folder, unixsocket=str(folder / "socket")) as running:
        yield running


async def use(url: str) -> None:
    """Let a job be done in a store."""
    store = make_store(url)
    await store.open()
    await done(store)
    await store.close()


def on(loop: NewLoop, url: str) -> None:
    """Use a store on a loop of this kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(use(url))


def certificate(folder: Path) -> ssl.SSLContext:
    """A context for a server on this machine, whose certificate is ``cert.pem`` in the folder."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS, and passes on what it gets to another port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        there = await asyncio.open_connection("127.0.0.1", port)
        both = [asyncio.create_task(pass_on(*pair)) for pair in ((reader, there[1]), (there[0], writer))]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, there[1]):
            end.transport.abort()
            with suppress(OSError):
                await end.wait_closed()

    serving: list[asyncio.Task[None] | None] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.gather(*(task for task in serving if task is not None))


@LOOPS
def test_a_unix_socket(own: Server, folder: Path, loop: NewLoop) -> None:
    """On both kinds of event loops."""
    on(loop, f"unix://{folder / 'socket'}")


@LOOPS
async def test_tls(own: Server, folder: Path, loop: NewLoop) -> None:
    """With the certificates that the URL names."""
    context = await asyncio.to_thread(certificate, folder)
    async with tls(own.port, context) as port:
        await asyncio.to_thread(on, loop, f"rediss://127.0.0.1:{port}?ssl_ca_certs={folder / 'cert.pem'}")


async def test_a_certificate_that_is_not_trusted_is_refused(own: Server, folder: Path) -> None:
    """Like a server that cannot be reached."""
    context = await asyncio.to_thread(certificate, folder)
    async with tls(own.port, context) as port:
        with pytest.raises(StoreUnavailable, match="certificate"):
            await use(f"rediss://127.0.0.1:{port}")
        await use(f"rediss://127.0.0.1:{port}?ssl_ca_certs={folder / 'cert.pem'}")


async def test_a_password_and_a_user(own: Server) -> None:
    """A wrong one is reported as a refused login."""
    with own.client() as client:
        client.acl_setuser("app", enabled=True, passwords="+p@ss", keys="*", channels="*", commands=["+@all"])
        client.config_set("requirepass", "secret")
        await use(own.url.replace("redis://", "redis://app:p%40ss@"))
        await use(own.url.replace("redis://", "redis://:secret@") + "/3")
        with pytest.raises(StoreUnavailable, match="refused the login"):
            await use(own.url.replace("redis://", "redis://app:wrong@"))
        with pytest.raises(StoreUnavailable, match="refused the login"):
            await use(own.url)


async def test_the_private_parts_of_redis_py_that_are_relied_on(own: Server) -> None:
    """A connection has its streams in ``_reader`` and ``_writer``; without them it is closed to itself."""
    connection = make_pool(parse(own.url)).make_connection()  # type: ignore[no-untyped-call]
    await connection.connect()
    writer = connection._writer
    assert isinstance(writer, asyncio.StreamWriter)
    assert isinstance(connection._reader, asyncio.StreamReader)
    connection._reader = connection._writer = None
    assert not connection.is_connected
    del connection
    assert not writer.transport.is_closing()
    writer.close()
    await writer.wait_closed()
