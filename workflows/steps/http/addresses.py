"""Which addresses are public: those that IANA's registries of special-purpose addresses do not set apart.

The ranges are written out, since what the standard library calls global differs between its versions. An IPv6 address
that carries an IPv4 one is public only where the carried one is, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6

_SPECIAL_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared address space of providers; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host of a virtual machine at Azure
        "169.254.0.0/16",  # link-local; clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All else is loopback, local, multicast, translated or not assigned: 64:ff9b:1::/48, fc00::/7, fe80::/10, …"""
_SPECIAL_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments: benchmarking, ORCHID, …
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def is_public(address: IPv4 | IPv6) -> bool:
    """Whether the address, and those that it carries, can be reached by everybody on the Internet."""
    if isinstance(address, IPv4):
        return not any(address in network for network in _SPECIAL_4)
    return _is_routed(address) and all(map(is_public, carried(address)))


def _is_routed(address: IPv6) -> bool:
    """By itself, whatever it carries. Carriers have ranges of their own."""
    if any(address in network for network in (_MAPPED, _NAT64, _TEREDO)):
        return True
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_6)


def carried(address: IPv6) -> Iterator[IPv4]:
    """The IPv4 addresses within an IPv6 address: mapped, NAT64, 6to4, Teredo (server and client), ISATAP."""
    number = int(address)
    low = number & 0xFFFF_FFFF
    if address in _MAPPED or address in _NAT64:
        yield IPv4(low)
    elif address in _6TO4:
        yield IPv4(number >> 80 & 0xFFFF_FFFF)
    elif address in _TEREDO:
        yield IPv4(number >> 64 & 0xFFFF_FFFF)
        yield IPv4(low ^ 0xFFFF_FFFF)
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield IPv4(low)
