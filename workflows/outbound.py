"""HTTP to the outside: pooled, size-limited, and never to a private address that was not allowed.

The address check happens where the connection is made, on the address that is really used, so a name that resolves
differently a moment later (DNS rebinding) or a redirect can't get past it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx
from django.conf import settings

from workflows.errors import Category, NonRetriable

MAX_CONNECTIONS = 200
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(NonRetriable):
    """Outbound steps don't call loopback or private addresses that are not allowed."""

    category = Category.CONFIGURATION


def is_allowed_private(host: str, port: int) -> bool:
    """Whether HEADRACE_ALLOWED_PRIVATE_HOSTS names the host, or the host with this port."""
    return not {host, f"{host}:{port}"}.isdisjoint(settings.ALLOWED_PRIVATE_HOSTS)


def check_address(host: str, port: int, address: str) -> None:
    """Raises AddressRefused for an address that is not public, unless its host is allowed."""
    ip = _inner(ipaddress.ip_address(address.split("%", maxsplit=1)[0]))
    if (not ip.is_global or ip.is_multicast) and not is_allowed_private(host, port):
        raise AddressRefused(
            f"{host} is at {ip}, a loopback or private address. Add {host} to HEADRACE_ALLOWED_PRIVATE_HOSTS if "
            "steps may call it."
        )


def _inner(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address carries (mapped, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to a checked address only."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be resolved: {error}") from None
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"resolving {host} took too long") from None
        addresses = [str(item[4][0]) for item in found]
        for address in addresses:
            check_address(host, port, address)
        failure: Exception | None = None
        for address in dict.fromkeys(addresses):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("Unix sockets are not for outbound steps")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _transport() -> httpx.AsyncHTTPTransport:
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(),
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=50,
        keepalive_expiry=15,
        http1=True,
        network_backend=_GuardedBackend(),
    )
    return transport


_local = threading.local()


def client() -> httpx.AsyncClient:
    """The client of the running loop's thread: one connection pool for all outbound steps of the worker."""
    if getattr(_local, "client", None) is None:
        _local.client = httpx.AsyncClient(transport=_transport(), trust_env=False)
    return _local.client  # type: ignore[no-any-return]


async def close() -> None:
    """Close the client of this loop's thread."""
    if getattr(_local, "client", None) is not None:
        await _local.client.aclose()
        _local.client = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response whose body was read up to the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    encoding: str


class AnswerTooLarge(NonRetriable):
    """The answer is larger than the step allows."""

    category = Category.INVALID_INPUT


async def send(request: httpx.Request, *, limit_bytes: int, follow_redirects: bool, auth: Any = None) -> Answer:
    """Send and read the answer. Raises AnswerTooLarge, AddressRefused or an httpx error."""
    response = await client().send(
        request, stream=True, follow_redirects=follow_redirects, auth=auth or httpx.USE_CLIENT_DEFAULT
    )
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit_bytes:
                raise AnswerTooLarge(
                    f"The answer of {request.url.host} is larger than {limit_bytes:,} bytes; raise max_response_bytes "
                    "or ask for less."
                )
    finally:
        await response.aclose()
    return Answer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=bytes(body),
        encoding=response.encoding or "utf-8",
    )
