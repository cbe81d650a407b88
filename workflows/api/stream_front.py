"""The ASGI application in front of Django that sends the live streams.

Django serves a stream within its request: until the stream ends, a thread and whatever the view has opened stay with
it. So here Django's request ends with the view's decision (a ticket), and only then the stream begins: two tasks of
the event loop, and nothing else. Every other request is passed on as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.http import HttpResponse

from workflows.api.stream_places import PLACES
from workflows.api.streams import KEEP_ALIVE_S, LONGEST_S, SLOT, STILL_HERE, Ticket, too_many
from workflows.errors import TooManyStreams
from workflows.stream_hub import HUB, RETRY, Subscription

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Slot:
    """Where a view leaves its ticket. From then on Django's answer is kept here: its headers are the stream's."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.ticket: Ticket | None = None
        self.start: Message | None = None

    async def send(self, message: Message) -> None:
        if self.ticket is None:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self.start = message


class StreamFront:
    """Django, and the streams that its views have admitted."""

    def __init__(self, django: Application) -> None:
        self._django = django

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._django(scope, receive, send)
            return
        slot = _Slot(send)
        await self._django({**scope, SLOT: slot}, receive, slot.send)
        if slot.ticket is not None and slot.start is not None:
            await _serve(slot.ticket, slot.start, receive, send)


async def _serve(ticket: Ticket, start: Message, receive: Receive, send: Send) -> None:
    try:
        place = PLACES.take(ticket.holder)
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
    subscription = HUB.follow(ticket.source, ticket.holder, wake)
    sender = asyncio.create_task(_send_all(subscription, woken, send))
    listener = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((sender, listener), timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
    finally:
        HUB.leave(subscription)
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
