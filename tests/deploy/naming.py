"""A name server, as Docker's: the name of a service has the addresses of all its containers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import cast

_HEADER, _ADDRESS_RECORD, _INTERNET = 12, 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address with ``addresses``, which a test can change."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It listens."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # that of uvloop is no subclass
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question."""
        end = data.index(0, _HEADER) + 5  # the name, its type and class
        (kind,) = struct.unpack_from("!H", data, end - 4)
        found = self.addresses if kind == _ADDRESS_RECORD else []
        header = data[:2] + struct.pack("!HHHHH", 0x8580, 1, len(found), 0, 0)
        name = struct.pack("!H", 0xC000 + _HEADER)  # that of the question
        records = [
            name + struct.pack("!HHIH", _ADDRESS_RECORD, _INTERNET, 1, 4) + IPv4Address(each).packed
            for each in found
        ]
        self._transport.sendto(header + data[_HEADER:end] + b"".join(records), addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[NameServer]:
    """A name server on a free port of this machine."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(
        lambda: NameServer(*addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield names
    finally:
        transport.close()
