"""HTTP to the outside: size-limited, never to a private address that was not allowed, and without a memory.

There is no client and no cookie jar. Connections are kept by organization; no call leaves anything else behind.

The address check happens where the connection is made, on the address that is really used, so a name that resolves
differently a moment later (DNS rebinding) or a redirect can't get past it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import ipaddress
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpcore
import httpx

from workflows import this_process
from workflows.errors import Category, NonRetriable
from workflows.steps.http import addresses, redirects
from workflows.steps.masking import Secrets
from workflows.this_process.configuration import configuration

MAX_CONNECTIONS = 200
MAX_POOLS = 100
KEPT_FOR_S = 15.0
LOOKUPS_AT_ONCE = 16
DRAINED_BYTES = 16 * 1024


class AddressRefused(NonRetriable):
    """Outbound steps don't call loopback or private addresses that are not allowed."""

    category = Category.CONFIGURATION


def is_allowed_private(host: str, port: int) -> bool:
    """Whether HEADRACE_ALLOWED_PRIVATE_HOSTS names the host, or the host with this port."""
    return not {host, f"{host}:{port}"}.isdisjoint(configuration().allowed_private_hosts)


def check_address(host: str, port: int, address: str) -> None:
    """Raises AddressRefused for an address that is not public, unless its host is allowed."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if not addresses.is_public(ip) and not is_allowed_private(host, port):
        raise AddressRefused(
            f"{host} is at {ip}, a loopback, special or private address. Add {host} to "
            "HEADRACE_ALLOWED_PRIVATE_HOSTS if steps may call it."
        )


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to a checked address only. Names are looked up anew for every connection, a few at a time."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = await asyncio.wait_for(self._look_up(host, port), timeout)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be resolved: {error}") from None
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"resolving {host} took too long") from None
        for address in found:
            check_address(host, port, address)
        failure: Exception | None = None
        for address in dict.fromkeys(found):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def _look_up(self, host: str, port: int) -> list[str]:
        """The addresses of a host. A lookup that nobody waits for any more holds its place until it ends: a thread
        that waits for a name server can't be stopped."""
        await self._lookups.acquire()
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(
            this_process.own(_lookup_threads),
            functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM),
        )
        lookup.add_done_callback(self._looked_up)
        return [str(item[4][0]) for item in await asyncio.shield(lookup)]

    def _looked_up(self, lookup: asyncio.Future[Any]) -> None:
        self._lookups.release()
        if not lookup.cancelled():
            lookup.exception()  # taken note of: nobody may be waiting any more

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("Unix sockets are not for outbound steps")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _lookup_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="lookup")


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for the process. It keeps no session of a client: Python resumes one only where it is told to."""
    return ssl.create_default_context()


class _Pool:
    """The connections of one organization. A server may tie a login or half an answer to a connection (NTLM, requests
    that were smuggled into another), so no other organization gets it."""

    def __init__(self) -> None:
        self.transport = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False)
        self.transport._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=50,
            keepalive_expiry=KEPT_FOR_S,
            http1=True,
            network_backend=_GuardedBackend(),
        )
        self.calls = 0
        self.used_at = 0.0


class _Pools(threading.local):
    """By organization, for the loop of this thread; the least recently used first.

    No `cachetools.LRUCache`: connections in use are not dropped, however many there are, and to close them is awaited.
    """

    def __init__(self) -> None:
        self.of: OrderedDict[UUID, _Pool] = OrderedDict()


@contextlib.asynccontextmanager
async def _connections(org_id: UUID) -> AsyncIterator[httpx.AsyncHTTPTransport]:
    """The organization's connections, for one call. Those that nobody has used for a while are closed."""
    pools = this_process.own(_Pools).of
    pool = pools.get(org_id)
    if pool is None:
        pool = pools[org_id] = _Pool()
    pools.move_to_end(org_id)
    pool.calls += 1
    try:
        now = time.monotonic()
        idle = [
            other
            for other, each in pools.items()
            if not each.calls and (now - each.used_at > KEPT_FOR_S or len(pools) > MAX_POOLS)
        ]
        for closing in [pools.pop(other) for other in idle]:
            await closing.transport.aclose()
        yield pool.transport
    finally:
        pool.calls -= 1
        pool.used_at = time.monotonic()


async def close() -> None:
    """Close the connections of this loop's thread."""
    pools = this_process.own(_Pools).of
    while pools:
        await pools.popitem()[1].transport.aclose()


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


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    query: Sequence[tuple[str, str]] = (),
    **body: Any,
) -> httpx.Request:
    """A request of one call: nothing is added to it but what every HTTP client says of itself.

    `body` is `content` or `data`. Raises httpx.InvalidURL, ValueError or TypeError for what can't be sent.
    """
    address = httpx.URL(url)
    if query:  # after the query that the URL has: httpx would replace it, or a name that comes twice
        own = [address.query.decode("ascii")] if address.query else []
        address = address.copy_with(query="&".join([*own, urlencode(query)]).encode("ascii"))
    return httpx.Request(
        method,
        address,
        headers={"accept": "*/*", "accept-encoding": "gzip, deflate", "connection": "keep-alive", **headers},
        extensions={"timeout": httpx.Timeout(timeout_s).as_dict()},
        **body,
    )


def basic(username: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


async def send(
    request: httpx.Request, *, org_id: UUID, limit_bytes: int, follow_redirects: bool, secrets: Secrets
) -> Answer:
    """Send and read the answer. What the answers set (cookies) is forgotten, also between redirects.

    `secrets`: what the step knows; it does not follow a redirect to another origin (workflows/steps/http/redirects.py).
    Raises AnswerTooLarge, AddressRefused, RedirectRefused or an httpx error.
    """
    first = request.url.host
    async with _connections(org_id) as transport:
        for _ in range(redirects.MAX_REDIRECTS + 1):
            response = await transport.handle_async_request(request)
            try:
                response.request = request
                if follow_redirects and response.has_redirect_location:
                    await _drain(response)
                    request = redirects.following(request, response, secrets)
                    continue
                return await _read(response, limit_bytes)
            finally:
                await response.aclose()
    raise redirects.RedirectRefused(f"{first}: more than {redirects.MAX_REDIRECTS} redirects follow each other.")


async def _drain(response: httpx.Response) -> None:
    """Read a short answer to its end, so that its connection can be used again."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > DRAINED_BYTES:
            return


async def _read(response: httpx.Response, limit_bytes: int) -> Answer:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit_bytes:
            raise AnswerTooLarge(
                f"The answer of {response.request.url.host} is larger than {limit_bytes:,} bytes; raise "
                "max_response_bytes or ask for less."
            )
    return Answer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=bytes(body),
        encoding=response.encoding or "utf-8",
    )
