"""Which addresses requests may go to: all that are public, and the networks that the operator allows."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from raincheck.core.errors import Fault, InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

VARIABLE = "RAINCHECK_ALLOWED_NETWORKS"
"""The environment variable with networks in addition to those of the configuration file."""

_IPV4 = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "cloud metadata",  # of Azure, in a network that is public otherwise
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4 relay",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_IPV6 = {
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "IPv4-mapped",
    "64:ff9b::/96": "IPv4-translated",
    "64:ff9b:1::/48": "IPv4-translated",
    "2001::/32": "Teredo",
    "2001::/23": "reserved",
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
    "fc00::/7": "unique local",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind) for network, kind in (_IPV4 | _IPV6).items()
)
"""The networks of the IANA registries of special-purpose addresses, the more specific ones first."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only IPv6 addresses that are assigned to hosts of the Internet."""


class AllowedNetworks:
    """The rule for addresses: those of ``networks`` are allowed, and all that are public."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def refusal(self, text: str) -> str | None:
        """Why requests may not go to an address, and what to write to allow it; None: they may.

        An IPv4 address inside an IPv6 address must be allowed, too.
        """
        address = parse_address(text)
        if address is None:
            return f"{text[:100]!r} is not an address"
        for each in (address, _ipv4_inside(address)):
            if each is not None and not self._allows(each):
                network = f"{each}/{each.max_prefixlen}"
                what = "is" if each is address else f"contains {each},"
                return (
                    f"{text} {what} a {_special_use(each)} address, which is not allowed. To allow it, add "
                    f"`allowed_networks: [{network!r}]` to the configuration file, or set "
                    f"{VARIABLE}={network}"
                )
        return None

    def _allows(self, address: Address) -> bool:
        return _special_use(address) is None or any(address in network for network in self._networks)


def parse_address(text: str) -> Address | None:
    """The address of its standard text form, without the zone of a link-local one; None for other text."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def parse_networks(values: Iterable[object]) -> list[Network]:
    """Networks in CIDR notation. Raises `InvalidInput`, with a pointer to the position of each fault."""
    networks: list[Network] = []
    faults: list[Fault] = []
    for i, value in enumerate(values):
        try:
            if not isinstance(value, str):
                raise ValueError(f"{value!r} is not a string")
            networks.append(ip_network(value))
        except ValueError as error:
            faults.append(Fault(f"expected a network such as 10.0.0.0/8 or fd00::/8: {error}", f"/{i}"))
    if faults:
        raise InvalidInput(*faults)
    return networks


def _special_use(address: Address) -> str | None:
    """The kind of a special-purpose address; None if it is a public one."""
    for network, kind in _SPECIAL:
        if address in network:
            return kind
    return "reserved" if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST else None


def _ipv4_inside(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address reach; None: there is none."""
    if isinstance(address, IPv4Address):
        return None
    if address.teredo is not None:
        return address.teredo[1]
    if address.sixtofour is not None:
        return address.sixtofour
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    translated = address in IPv6Network("64:ff9b::/96") or address in IPv6Network("64:ff9b:1::/48")
    return low if translated or address.ipv4_mapped is not None else None
