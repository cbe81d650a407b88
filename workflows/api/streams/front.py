"""The ASGI application in front of Django: it sends the answers and the live streams, and answers health checks and
plain requests with events or for runs (`door`) itself. Plain requests of a run are answered in Django's thread, but by
the door.

Django sends an answer within its request. Until the client has read it, a thread and the view's connection to Postgres
stay with it: a few clients that do not read would take the process down. So here Django's request ends first. Its
answer is sent then, or, where a view has admitted a live stream (a ticket), the stream: two tasks of the event loop,
and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, JsonResponse
from django.http.request import split_domain_port, validate_host

from workflows import this_process
from workflows.api.door.door import Door
from workflows.api.door.plain import Hosts
from workflows.api.door.reading import plain_read
from workflows.api.edge.handler import SHORT
from workflows.api.health import alive, ready
from workflows.api.streams.places import Places
from workflows.api.streams.routes import KEEP_ALIVE_S, LONGEST_S, SLOT, STILL_HERE, Ticket, too_many
from workflows.errors import TooManyStreams
from workflows.streams.hub import RETRY, Hub, Subscription

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Answer:
    """Django's answer, kept until its request is over, and the ticket that a view may leave."""

    def __init__(self) -> None:
        self.ticket: Ticket | None = None
        self.messages: list[Message] = []

    async def keep(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def is_good(self) -> bool:
        """Whether the view's answer came through: a middleware may have put an error in its place."""
        return bool(self.messages) and self.messages[0].get("status") == 200


class Front:
    """Health, plain requests, Django, and the streams that its views have admitted."""

    def __init__(self, django: Application, middlewares: Sequence[Callable[[Any], Any]] = ()) -> None:
        """`middlewares` of Django: those that give an answer headers, for the answers that Django does not make."""
        self._django = django
        self._headers = _headers_of_answers(middlewares)
        by_scheme = [self._headers, _headers_of_answers(middlewares, scheme="https")]
        self._door = Door(by_scheme)
        self._hosts = Hosts()
        self._headers_of_reads = [
            [(name, value) for name, value in each if name != b"content-type"] for each in by_scheme
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._django(scope, receive, send)
            return
        check = HEALTH.get(scope.get("path", ""))
        if check is not None and _is_plain(scope):
            await self._say(await check(), send)
            return
        left = await self._door.answer(scope, receive, send)
        if left is not None:
            await self._ask_django(scope, left, send)

    async def _ask_django(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer()
        read = plain_read(scope, self._hosts, self._headers_of_reads)
        short = {SHORT: read.answer} if read is not None else {}
        await self._django({**scope, SLOT: answer, **short}, receive, answer.keep)
        if answer.ticket is not None and answer.is_good:
            await _serve(answer.ticket, answer.messages[0], receive, send)
        else:
            for message in answer.messages:
                await send(message)

    async def _say(self, answer: tuple[int, dict[str, Any]], send: Send) -> None:
        """Send the answer of a health check: no middleware has a part in it, and no thread."""
        status, body = answer
        content = json.dumps(body).encode()
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*self._headers, length]})
        await send({"type": "http.response.body", "body": content})


HEALTH: dict[str, Callable[[], Awaitable[tuple[int, dict[str, Any]]]]] = {"/healthz": alive, "/readyz": ready}


def _is_plain(scope: Scope) -> bool:
    """Whether the front may answer it: a GET by an allowed name. Django says what is wrong with every other one."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    domain, _ = split_domain_port(host)
    return scope["method"] == "GET" and not scope["query_string"] and validate_host(domain, settings.ALLOWED_HOSTS)


def _headers_of_answers(
    middlewares: Iterable[Callable[[Any], Any]], *, scheme: str = "http"
) -> list[tuple[bytes, bytes]]:
    """The headers that Django's middlewares would give an answer."""
    scope = {"type": "http", "method": "GET", "path": "/healthz", "scheme": scheme, "headers": []}
    request = ASGIRequest(scope, io.BytesIO())
    answer = JsonResponse({})
    for middleware in middlewares:
        middleware(lambda _: answer)(request)
    return [(name.lower().encode(), value.encode()) for name, value in answer.items()]


async def _serve(ticket: Ticket, start: Message, receive: Receive, send: Send) -> None:
    try:
        place = this_process.own(Places).take(ticket.holder)
    except TooManyStreams as error:
        await _refuse(too_many(error), start, send)
        return
    try:
        await _stream(ticket, start, receive, send)
    finally:
        place.release()


async def _refuse(response: HttpResponse, start: Message, send: Send) -> None:
    """Send this instead; headers that Django's middleware has set stay."""
    own = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    names = {name for name, _ in own} | {b"content-length", b"x-accel-buffering"}
    kept = [(name, value) for name, value in _headers(start) if name.lower() not in names]
    length = (b"content-length", str(len(response.content)).encode())
    await send({**start, "status": response.status_code, "headers": [*kept, *own, length]})
    await send({"type": "http.response.body", "body": response.content, "more_body": False})


def _headers(start: Message) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in start["headers"]]


async def _stream(ticket: Ticket, start: Message, receive: Receive, send: Send) -> None:
    """Send the stream until it ends, the client goes, or the server stops."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the stream with it
            loop.call_soon_threadsafe(woken.set)

    headers = [(name, value) for name, value in _headers(start) if name.lower() != b"content-length"]
    await send({**start, "headers": headers})
    hub = this_process.own(Hub)
    subscription = hub.follow(ticket.source, ticket.holder, wake)
    sender = asyncio.create_task(_send_all(subscription, woken, send))
    listener = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((sender, listener), timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
    finally:
        hub.leave(subscription)
        for task in (sender, listener):
            task.cancel()
        await asyncio.gather(sender, listener, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_all(subscription: Subscription, woken: asyncio.Event, send: Send) -> None:
    """Send what comes, until it is over.

    A client that does not read holds `send` up. Its queue is bounded, and it keeps its place until it reads on or goes.
    """

    async def say(body: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    await say(RETRY)
    is_over = False
    while not is_over:
        woken.clear()
        chunk, is_over = subscription.take()
        if chunk:
            await say(chunk)
        elif not is_over:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await woken.wait()
            except TimeoutError:
                await say(STILL_HERE)
    await say(b"", more=False)
