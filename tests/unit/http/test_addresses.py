"""Which addresses outbound steps may call: every range of the special-purpose registries, in every way of writing it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.steps.http import client

REFUSED = {
    "this network": "0.0.0.0 0.1.2.3",
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd00:ec2::254",
    "shared address space": "100.64.0.1 100.100.100.200 100.127.255.255",
    "link-local": "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 febf::1",
    "IETF protocol assignments": "192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192 192.0.0.255 2001:1::4 2001:1ff::1",
    "documentation": "192.0.2.1 198.51.100.7 203.0.113.9 2001:db8::1 3fff::1 3fff:fff:ffff::1",
    "6to4 relays": "192.88.99.1 192.88.99.254",
    "benchmarking": "198.18.0.1 198.19.255.255 2001:2::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1 ff0e::1",
    "reserved": "240.0.0.1 255.255.255.255",
    "a cloud's host": "168.63.129.16",
    "unspecified": "::",
    "mapped": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254",
    "translated": "::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8",
    "IPv4-compatible": "::127.0.0.1 ::10.0.0.1 ::8.8.8.8",
    "NAT64": "64:ff9b::127.0.0.1 64:ff9b::10.1.2.3 64:ff9b::169.254.169.254",
    "local NAT64": "64:ff9b:1::1 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff::10.0.0.1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "6to4": "2002:7f00:1:: 2002:0a00:0001::1 2002:a9fe:a9fe::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:80ff:fffe 2001:0:7f00:1:0:0:f7f7:f7f7",
    "ISATAP": "2a00:1450::5efe:10.0.0.1 2a00:1450::200:5efe:127.0.0.1 fe80::5efe:8.8.8.8",
    "discard only": "100::1 100:0:0:1::1",
    "segment routing": "5f00::1",
    "ORCHID": "2001:10::1 2001:20::1 2001:2f::1",
    "site-local": "fec0::1 feff::1",
    "not assigned": "4000::1 8000::1 e000::1",
}
CASES = [(kind, address) for kind, addresses in REFUSED.items() for address in addresses.split()]
PUBLIC = ["8.8.8.8", "93.184.215.14", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:81b::200e", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1", "2001:200::1", "2001:4860:4860::8888", "2a00:1450::5efe:8.8.8.8"]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_allowed(settings: Any) -> None:
    settings.HEADRACE = {"ALLOWED_PRIVATE_HOSTS": frozenset()}


@pytest.mark.parametrize(("kind", "address"), CASES)
def test_special_addresses_are_refused(kind: str, address: str) -> None:
    with pytest.raises(client.AddressRefused, match="HEADRACE_ALLOWED_PRIVATE_HOSTS"):
        client.check_address("host.example", 80, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    client.check_address("host.example", 80, address)


CARRIERS = ("::ffff:0:0/96", "64:ff9b::/96")


@given(st.ip_addresses(v=4), st.sampled_from(CARRIERS))
def test_an_address_that_carries_another_is_judged_by_it(inner: ipaddress.IPv4Address, carrier: str) -> None:
    network = ipaddress.IPv6Network(carrier)
    carrying = ipaddress.IPv6Address(int(network.network_address) | int(inner))
    assert _is_refused(str(carrying)) == _is_refused(str(inner))


@given(st.ip_addresses())
def test_what_python_calls_private_is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        carried = getattr(address, "ipv4_mapped", None)
        assert _is_refused(str(address)) or carried is not None or address in ipaddress.ip_network("64:ff9b::/96")


def _is_refused(address: str) -> bool:
    try:
        client.check_address("host.example", 80, address)
    except client.AddressRefused:
        return True
    return False
