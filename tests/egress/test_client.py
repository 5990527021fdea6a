"""The HTTP client for configured URLs, against receivers and resolvers that are hostile."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.errors import AddressNotAllowed, RequestFailed
from raincheck.egress.addresses import AllowedNetworks, parse_networks
from raincheck.egress.client import Egress, Resolve, Response, parse_url, resolve
from tests.receiver import Receiver, Request, answering, receiving, response

LIMIT = 10_000


def egress(*networks: str, resolve: Resolve = resolve) -> Egress:
    return Egress(AllowedNetworks(parse_networks(networks)), resolve)


def resolving(*answers: Iterable[str]) -> Resolve:
    """A resolver with these answers, one after the other; the last one stays."""
    left = [list(answer) for answer in answers]

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def post(url: str, *networks: str, resolve: Resolve = resolve, limit: int = LIMIT) -> Response:
    async with egress(*networks, resolve=resolve) as client:
        return await client.post(parse_url(url), {"x-test": "1"}, b"{}", limit)


async def test_a_request_is_sent_to_an_allowed_address() -> None:
    """With the name of the URL as its host, and its query."""
    async with receiving(answering(response(b"[1]"))) as receiver:
        url = f"http://example.com:{receiver.port}/a?b=c"
        got = await post(url, "127.0.0.1/32", resolve=resolving(["127.0.0.1"]))
    assert (got.status, got.body, got.is_cut) == (200, b"[1]", False)
    assert got.headers["content-type"] == "application/json"
    (request,) = receiver.requests
    assert request.line == "POST /a?b=c HTTP/1.1"
    assert request.headers == {
        "host": f"example.com:{receiver.port}",
        "accept-encoding": "identity",
        "x-test": "1",
        "content-length": "2",
    }


async def test_a_host_that_resolves_to_a_private_address_is_not_connected_to() -> None:
    """The error says what to write to allow it."""
    async with receiving(answering(response())) as receiver:
        with pytest.raises(AddressNotAllowed, match=r"`allowed_networks: \['127.0.0.1/32'\]`"):
            await post(f"http://example.com:{receiver.port}/", resolve=resolving(["127.0.0.1"]))
        assert receiver.connections == 0


async def test_one_private_address_among_others_is_enough_to_refuse_a_host() -> None:
    """In whatever place it is."""
    async with receiving(answering(response())) as receiver:
        for addresses in (["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"]):
            with pytest.raises(AddressNotAllowed, match=r"10\.0\.0\.1"):
                await post(
                    f"http://example.com:{receiver.port}/", "127.0.0.1/32", resolve=resolving(addresses)
                )
        assert receiver.connections == 0


async def test_a_name_that_changes_its_address_is_checked_at_each_connection() -> None:
    """DNS rebinding: each connection goes to an address that was checked for it, and is resolved once."""
    async with receiving(answering(response(b"1", "Connection: close")), "127.0.0.1") as receiver:
        client = egress("127.0.0.1/32", resolve=resolving(["127.0.0.1"], ["127.0.0.2"]))
        target = parse_url(f"http://rebinding.example:{receiver.port}/")
        async with client:
            assert (await client.post(target, {}, b"", LIMIT)).body == b"1"
            with pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.2"):
                await client.post(target, {}, b"", LIMIT)
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0"],
)
async def test_other_names_of_this_machine_are_refused(host: str) -> None:
    """By the resolver of the system."""
    async with receiving(answering(response())) as receiver:
        with pytest.raises((AddressNotAllowed, RequestFailed)):
            await post(f"http://{host}:{receiver.port}/")
        assert receiver.connections == 0


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://2130706433/", "number as its host|not a valid URL"),
        ("http://0x7f000001/", "number as its host|not a valid URL"),
        ("http://0x7f.1/", "number as its host|not a valid URL"),
        ("http://017700000001/", "number as its host|not a valid URL"),
        ("http://0177.0.0.1/", "number as its host|not a valid URL"),
        ("http://127.1/", "number as its host|not a valid URL"),
        ("http://127.0.0.1./", "number as its host|not a valid URL"),
        ("http://example.0x1./", "number as its host|not a valid URL"),
        ("http://256.256.256.256/", "number as its host|not a valid URL"),
        ("http://user:secret@example.com/", "user name"),
        ("http://example.com@127.0.0.1/", "user name"),
        ("http://127.0.0.1\\@example.com/", "user name|no valid host"),
        ("http://example.com/#fragment", "fragment"),
        ("http:///path", "no valid host"),
        ("http://exa mple.com/", "no valid host|not a valid URL"),
        ("http://127%2e0.0.1/", "no valid host"),
        ("http://[fe80::1%25eth0]/", "no valid host"),
        ("http://example..com/", "no valid host|not a valid URL"),
        ("http://example.com:0/", "port"),
        ("http://example.com:99999/", "port|not a valid URL"),
        ("http://example.com/\r\nHost: evil", "not a valid URL"),
        ("http://exam\nple.com/", "not a valid URL"),
        ("http://\uff11\uff12\uff17.0.0.1/", "not a valid URL|number"),
        ("file:///etc/passwd", "http://"),
        ("gopher://example.com/", "http://"),
        ("unix:///run/docker.sock", "http://"),
        ("//example.com/", "http://"),
        ("", "http://"),
    ],
)
def test_urls_that_name_no_plain_host_are_refused(url: str, detail: str) -> None:
    """Two parsers could read them in two ways. The error does not repeat the URL, which can be secret."""
    with pytest.raises(ValueError, match=detail) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


PARTS = st.sampled_from(
    ["@", ":", "/", "\\", "?", "#", "[", "]", "%", "%0d%0a", ".", "0x7f", "::1", "127.1", "\r\n"]
)


@given(st.sampled_from(["http", "https"]), st.lists(PARTS | st.text(max_size=5)))
def test_whatever_a_url_is_made_of_a_request_has_one_host(scheme: str, parts: list[str]) -> None:
    """No part of it can end a line or begin another header."""
    try:
        target = parse_url(f"{scheme}://{''.join(parts)}")
    except ValueError:
        return
    assert re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", target.host, re.ASCII)
    assert re.fullmatch(rb"[\w.:\[\]-]+", target.netloc)
    assert re.fullmatch(rb"/[!-~]*", target.path)
    assert target.host.encode() in target.netloc


def test_what_a_url_means() -> None:
    """Its name is that of TLS and of the header, in ASCII."""
    target = parse_url("https://Bücher.example/a b?c=ü")
    assert (target.scheme, target.host, target.port) == (b"https", "xn--bcher-kva.example", 443)
    assert (target.path, target.netloc) == (b"/a%20b?c=%C3%BC", b"xn--bcher-kva.example")
    assert parse_url("http://[::1]:8080/").netloc == b"[::1]:8080"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """The caller gets their status."""
    async with receiving(answering(response())) as other:
        redirect = response(b"", f"Location: {other.url}/", status=f"{status} Moved")
        async with receiving(answering(redirect)) as receiver:
            got = await post(receiver.url, "127.0.0.1/32")
        assert got.status == status
        assert other.connections == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the host itself."""
    async with (
        receiving(answering(response(b"1"))) as receiver,
        receiving(answering(response(b"2"))) as proxy,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await post(receiver.url, "127.0.0.1/32")).body == b"1"
        assert proxy.connections == 0


async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
    """Sends a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        await writer.drain()


async def test_no_more_of_a_body_is_read_than_the_limit() -> None:
    """The connection is closed then."""
    async with receiving(endless) as receiver:
        got = await post(receiver.url, "127.0.0.1/32")
        assert (len(got.body), got.is_cut) == (LIMIT, True)
        await receiver.until(lambda receiver: receiver.closed == 1)


async def test_less_is_read_of_a_body_without_success() -> None:
    """It is only shown to people."""
    content = response(bytes(100_000), status="500 Oops")
    async with receiving(answering(content)) as receiver:
        got = await post(receiver.url, "127.0.0.1/32", limit=1_000_000)
    assert (got.status, len(got.body), got.is_cut) == (500, 16 * 1024, True)


async def test_a_compressed_body_is_not_decompressed() -> None:
    """The limit holds for what is received, and so for what is kept."""
    bomb = gzip.compress(bytes(5_000_000))
    async with receiving(answering(response(bomb, "Content-Encoding: gzip"))) as receiver:
        assert (await post(receiver.url, "127.0.0.1/32")).body == bomb


async def endless_headers(request: Request, writer: asyncio.StreamWriter) -> None:
    """Sends headers that never end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def test_headers_are_bounded() -> None:
    """By the HTTP library."""
    async with receiving(endless_headers) as receiver:
        with pytest.raises(RequestFailed):
            await post(receiver.url, "127.0.0.1/32")


async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
    """Sends a part of a response, and nothing more."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
    await writer.drain()
    await asyncio.Event().wait()


async def test_a_caller_that_is_cancelled_closes_the_connection() -> None:
    """So that a slow receiver learns that nobody waits any more."""
    async with receiving(hanging) as receiver, egress("127.0.0.1/32") as client:
        request = asyncio.create_task(client.post(parse_url(receiver.url), {}, b"", LIMIT))
        await receiver.until(lambda receiver: len(receiver.requests) == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=range(8),
)
async def test_garbage_is_no_response(content: bytes) -> None:
    """Nor is a response that ends early."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        writer.close()

    async with receiving(answer) as receiver:
        with pytest.raises(RequestFailed) as caught:
            await post(receiver.url, "127.0.0.1/32")
    assert caught.value.peer == f"127.0.0.1:{receiver.port}"


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


async def test_a_refused_connection_says_why() -> None:
    """As the system does."""
    with pytest.raises(RequestFailed, match="no connection: Connection refused"):
        await post(f"http://127.0.0.1:{closed_port()}", "127.0.0.1/32")


async def test_another_address_of_the_host_is_tried() -> None:
    """If the first one refuses the connection."""
    async with receiving(answering(response(b"1")), "127.0.0.2") as receiver:
        addresses = resolving(["127.0.0.1", "127.0.0.2"])
        got = await post(f"http://example.com:{receiver.port}", "127.0.0.0/8", resolve=addresses)
    assert got.body == b"1"


@pytest.mark.parametrize("addresses", [[], ["not an address"], ["127.1"]])
async def test_a_resolver_without_addresses_is_an_error(addresses: list[str]) -> None:
    """Whatever it returns instead is not connected to."""
    with pytest.raises(RequestFailed):
        await post("http://example.com", resolve=resolving(addresses))


async def test_a_host_that_does_not_exist_is_an_error() -> None:
    """By the resolver of the system."""
    with pytest.raises(RequestFailed, match="the host cannot be resolved"):
        await post("http://does-not-exist.invalid/")


async def test_a_resolver_that_hangs_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of making a connection."""

    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("raincheck.egress.client.CONNECT_TIMEOUT", 0.01)
    with pytest.raises(RequestFailed, match=r"no connection within 0.01 s"):
        await post("http://example.com", resolve=hang)


async def test_connections_are_reused() -> None:
    """One after the other."""
    async with receiving(answering(response(b"1"))) as receiver, egress("127.0.0.1/32") as client:
        for _ in range(5):
            await client.post(parse_url(receiver.url), {}, b"", LIMIT)
    assert (receiver.connections, len(receiver.requests)) == (1, 5)


async def test_the_last_user_of_a_loop_closes_the_connections() -> None:
    """Others of the loop go on until then."""

    def count(receiver: Receiver) -> Callable[[Receiver], bool]:
        return lambda receiver: receiver.closed == 1

    async with receiving(answering(response(b"1"))) as receiver:
        client = egress("127.0.0.1/32")
        async with client:
            async with client:
                await client.post(parse_url(receiver.url), {}, b"", LIMIT)
            await client.post(parse_url(receiver.url), {}, b"", LIMIT)
        await receiver.until(count(receiver))
    assert receiver.connections == 1


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\0b", "é"])
async def test_a_header_cannot_contain_another(value: str) -> None:
    """Nothing is sent."""
    async with receiving(answering(response())) as receiver, egress("127.0.0.1/32") as client:
        with pytest.raises((RequestFailed, ValueError)):
            await client.post(parse_url(receiver.url), {"x-test": value}, b"", LIMIT)
        assert receiver.requests == []
