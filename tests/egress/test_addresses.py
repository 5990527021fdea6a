"""Which addresses requests may go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.core.errors import InvalidInput
from raincheck.egress.addresses import AllowedNetworks, parse_networks

PUBLIC = ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]

SPECIAL = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.1": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.100.100.200": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "cloud metadata",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "224.0.0.1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "64:ff9b::7f00:1": "IPv4-translated",
    "64:ff9b:1::a00:1": "IPv4-translated",
    "100::1": "reserved",
    "2001::1": "Teredo",
    "2001:10::1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "3fff::1": "documentation",
    "5f00::1": "reserved",
    "fc00::1": "unique local",
    "fd00:ec2::254": "unique local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "reserved",
    "ff02::1": "multicast",
}


def allowing(*networks: str) -> AllowedNetworks:
    return AllowedNetworks(parse_networks(networks))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    """Without configuration."""
    assert allowing().refusal(address) is None


@pytest.mark.parametrize(("address", "kind"), SPECIAL.items())
def test_special_addresses_are_refused(address: str, kind: str) -> None:
    """With their kind, and with what to write to allow them."""
    refusal = allowing().refusal(address) or ""
    network = ip_network(address.partition("%")[0])
    assert f"a {kind} address" in refusal
    if not address.startswith("::ffff"):
        assert refusal.endswith(f"RAINCHECK_ALLOWED_NETWORKS={network}")


@pytest.mark.parametrize("text", ["", "localhost", "0x7f000001", "2130706433", "127.1", "1.1.1.1/32"])
def test_other_text_is_refused(text: str) -> None:
    """A resolver returns addresses in their standard form only."""
    assert allowing().refusal(text) == f"{text!r} is not an address"


@given(st.ip_addresses())
def test_no_address_is_allowed_that_python_calls_special(address: IPv4Address | IPv6Address) -> None:
    """By the registries that its version knows. Those of networks that translate addresses are more."""
    if not address.is_global or address.is_multicast:
        assert allowing().refusal(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_address_is_refused(inside: IPv4Address) -> None:
    """In every form, whatever it is."""
    number = int(inside)
    forms = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(0x20010000 << 96 | number ^ 0xFFFFFFFF),
    ]
    assert [form for form in forms if allowing().refusal(str(form)) is None] == []


def test_the_networks_that_are_allowed_are_allowed() -> None:
    """And no others."""
    allowed = allowing("10.1.0.0/16", "::1/128")
    assert allowed.refusal("10.1.2.3") is None
    assert allowed.refusal("::1") is None
    assert allowed.refusal("10.2.0.1") is not None
    assert allowed.refusal("127.0.0.1") is not None


@pytest.mark.parametrize(
    ("network", "inside"),
    [
        ("::ffff:0:0/96", "::ffff:10.0.0.1"),
        ("64:ff9b::/96", "64:ff9b::a00:1"),
        ("64:ff9b:1::/48", "64:ff9b:1::a00:1"),
        ("2002::/16", "2002:a00:1::"),
        ("2001::/32", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
    ],
)
def test_an_ipv4_address_inside_must_be_allowed_too(network: str, inside: str) -> None:
    """To allow NAT64 does not allow the private addresses behind it."""
    assert "10.0.0.1/32" in (allowing(network).refusal(inside) or "")
    assert allowing(network, "10.0.0.0/8").refusal(inside) is None


def test_invalid_networks_are_all_named() -> None:
    """With their positions."""
    with pytest.raises(InvalidInput) as caught:
        parse_networks(["10.0.0.0/8", "10.0.0.1/8", "localhost", 10])
    assert [fault.pointer for fault in caught.value.faults] == ["/1", "/2", "/3"]
    assert caught.value.faults[0].detail.endswith("10.0.0.1/8 has host bits set")
