"""Server-sent events: `/api/runs/{id}/stream` and `/api/stream`. Plain views: the responses never end by themselves."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from workflows import access
from workflows.api.auth import ApiKeyAuth
from workflows.api.problems import problem
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.streaming import Message, OrganizationStream, RunStream

POLL_S = 0.4
KEEP_ALIVE_S = 15.0
LONGEST_S = 3_600.0
MAX_STREAMS = 200


class Source(Protocol):
    """What is streamed."""

    is_over: bool

    def poll(self) -> list[Message]: ...


class Places:
    """How many streams this process serves at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken = 0

    def take(self) -> bool:
        with self._lock:
            free = self.taken < MAX_STREAMS
            self.taken += free
            return free

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1


PLACES = Places()


def run_stream(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """The changes of a run, until it has ended."""
    return _stream(request, lambda organization, last_id: RunStream.open(organization, run_id, last_id))


def organization_stream(request: HttpRequest) -> HttpResponseBase:
    """The changes of all runs of the organization."""
    return _stream(request, OrganizationStream.open)


def _stream(request: HttpRequest, open_: Callable[[Organization, str], Source]) -> HttpResponseBase:
    if request.method != "GET":
        return _refuse(405, "method_not_allowed", "Streams are read with GET.")
    try:
        organization = _organization(request)
    except WorkflowsError as error:
        return _refuse(error.status, error.code, str(error))
    if organization is None:
        response = _refuse(401, "unauthorized", "Send a valid API key: Authorization: Bearer hr_api_…")
        response["WWW-Authenticate"] = "Bearer"
        return response
    wanted = request.GET.get("org", organization.slug)
    if wanted not in {organization.slug, str(organization.id)}:
        return _refuse(404, "not_found", "The key belongs to another organization.")
    try:
        source = open_(organization, request.headers.get("Last-Event-ID", "") or request.GET.get("lastEventId", ""))
    except WorkflowsError as error:
        return _refuse(error.status, error.code, str(error))
    if not PLACES.take():
        response = _refuse(503, "too_many_streams", f"This process serves {MAX_STREAMS} streams already; try again.")
        response["Retry-After"] = "5"
        return response
    body = _lines_async(source) if isinstance(request, ASGIRequest) else _lines(source)
    streaming = StreamingHttpResponse(body, content_type="text/event-stream")
    streaming["Cache-Control"] = "no-cache"
    streaming["X-Accel-Buffering"] = "no"
    return streaming


def _refuse(status: int, code: str, detail: str) -> HttpResponse:
    return problem(status, code, detail)


def _organization(request: HttpRequest) -> Organization | None:
    """By API key; or for a browser that is logged in, the one that its login sees. Raises Forbidden, NoOrganization."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        key = ApiKeyAuth().authenticate(request, header.removeprefix("Bearer ").strip())
        return key.organization if key else None
    if request.user.is_authenticated:
        return access.organization_of(request.user, wanted=request.GET.get("org", ""))
    return None


def _text(message: Message) -> bytes:
    return f"id: {message.id}\nevent: {message.name}\ndata: {json.dumps(message.data, default=str)}\n\n".encode()


def _poll(source: Source) -> list[bytes]:
    try:
        return [_text(message) for message in source.poll()]
    finally:
        connections.close_all()


class _Pace:
    """When to say that the stream is alive, and when it has lasted long enough."""

    def __init__(self) -> None:
        self._until = time.monotonic() + LONGEST_S
        self._spoke = time.monotonic()

    def goes_on(self, source: Source) -> bool:
        return not source.is_over and time.monotonic() < self._until

    def filler(self, said: bool) -> bytes:
        now = time.monotonic()
        if said or now - self._spoke > KEEP_ALIVE_S:
            self._spoke = now
            return b"" if said else b": still here\n\n"
        return b""


def _lines(source: Source) -> Iterator[bytes]:
    pace = _Pace()
    try:
        yield b"retry: 1000\n\n"
        while pace.goes_on(source):
            chunks = _poll(source)
            yield b"".join(chunks) or pace.filler(bool(chunks))
            if not source.is_over:
                time.sleep(POLL_S)
    finally:
        PLACES.give_back()


async def _lines_async(source: Source) -> AsyncIterator[bytes]:
    pace = _Pace()
    poll: Callable[..., Any] = sync_to_async(_poll, thread_sensitive=False)
    try:
        yield b"retry: 1000\n\n"
        while pace.goes_on(source):
            chunks = await poll(source)
            yield b"".join(chunks) or pace.filler(bool(chunks))
            if not source.is_over:
                await asyncio.sleep(POLL_S)
    finally:
        PLACES.give_back()
