"""Answers plain requests: on the event loop, with what a thread has stored for many of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg

from workflows import payload, presenters
from workflows.api.door.plain import Hosts, Plain, Scope, plain, wanted_runs
from workflows.api.edge import problems
from workflows.api.edge.openapi import MEDIA_TYPE_JSON
from workflows.errors import WorkflowsError
from workflows.services import intake
from workflows.services.intake import Outcome

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
LOST = "Postgres went away meanwhile. Nobody knows whether it was stored; send it again in a moment."


class Settled:
    """Brings outcomes from the threads that store to the loop: many by one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[tuple[asyncio.Future[Outcome], Outcome]] = deque()
        self._is_called = False

    def call(self, future: asyncio.Future[Outcome], outcome: Outcome) -> None:
        """Set the future's result, from another thread."""
        self._done.append((future, outcome))
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the request with it
                self._loop.call_soon_threadsafe(self._set_all)

    def _set_all(self) -> None:
        self._is_called = False
        while self._done:
            future, outcome = self._done.popleft()
            if not future.done():
                future.set_result(outcome)


class Door:
    """Takes plain requests in. `headers`, of answers over HTTP and over HTTPS, are those that Django's middlewares give
    every answer."""

    def __init__(self, headers: Sequence[Sequence[tuple[bytes, bytes]]]) -> None:
        self._headers = [[(name, value) for name, value in each if name != b"content-type"] for each in headers]
        self._hosts = Hosts()
        self._settled: dict[asyncio.AbstractEventLoop, Settled] = {}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Answer a plain request. Returns where another one, or one that is no plain one after all, is received from;
        None where it is answered, or its client has gone."""
        request = plain(scope, self._hosts)
        if request is None:
            return receive
        body = await _read(receive)
        if body is None:
            return None
        outcome, is_array = await self._store(request, body)
        if outcome is None:
            return _replayed(body, receive)
        for message in self._messages(request, outcome, is_array=is_array):
            await send(message)
        return None

    async def _store(self, request: Plain, body: bytes) -> tuple[Outcome, bool]:
        """(what becomes of it, whether the body is an array)."""
        loop = asyncio.get_running_loop()
        settled = self._settled.get(loop)
        if settled is None:
            settled = self._settled[loop] = Settled(loop)
        future: asyncio.Future[Outcome] = loop.create_future()
        try:
            value = payload.parse(body) if body or request.kind == "event" else {}
        except WorkflowsError:
            return None, False
        is_taken = _give(request, value, lambda outcome: settled.call(future, outcome))
        return (await future if is_taken else None), isinstance(value, list)

    def _messages(
        self, request: Plain, outcome: list[UUID] | psycopg.Error, *, is_array: bool
    ) -> tuple[Message, Message]:
        if isinstance(outcome, psycopg.Error):
            return self._unknown(request, outcome)
        if request.kind == "event":
            content = {"ids": [str(id_) for id_ in outcome], "status": 200}
            return self._said(request, 200, json.dumps(content).encode(), {"content-type": "application/json"})
        started = presenters.many_started_out(outcome) if is_array else _started(outcome[0])
        return self._said(request, 202, json.dumps(started).encode(), {"content-type": MEDIA_TYPE_JSON})

    def _unknown(self, request: Plain, error: psycopg.Error) -> tuple[Message, Message]:
        """503: Postgres went away while the request was being stored."""
        extra = {"error": LOST, "ids": []} if request.kind == "event" else {}
        response = problems.unavailable("Postgres", error, detail=LOST, **extra)
        own = {name.lower(): response[name] for name in ("Content-Type", "Retry-After")}
        return self._said(request, response.status_code, response.content, own)

    def _said(self, request: Plain, status: int, body: bytes, own: Mapping[str, str]) -> tuple[Message, Message]:
        headers = [(name.encode(), value.encode()) for name, value in own.items()]
        headers += [(b"content-length", b"%d" % len(body)), *self._headers[request.is_secure]]
        return (
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body},
        )


def _give(request: Plain, value: payload.Json, settle: Callable[[Outcome], None]) -> bool:
    if request.kind == "event":
        return intake.send_events(request.key, value, settle)
    wanted = wanted_runs(value)
    return wanted is not None and intake.start_runs(request.key, request.slug, wanted, settle)


def _started(run_id: UUID) -> dict[str, Any]:
    return presenters.started_out(run_id, existing=False, message=presenters.QUEUED)


async def _read(receive: Receive) -> bytes | None:
    """The body; None where the client has gone. The server holds it to its announced length."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receives the body that was read, and then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return replayed
