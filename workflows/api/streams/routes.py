"""Server-sent events: `/api/runs/{id}/stream` and `/api/stream`.

The views only decide who reads what. Over ASGI the request is over then, with its thread and its connection to
Postgres, and `Front` sends the stream. Under WSGI (the development server, the live server of tests) a stream
occupies the server's thread, and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from workflows import this_process
from workflows.api.edge import query
from workflows.api.edge.auth import ApiKeyAuth
from workflows.api.edge.problems import problem
from workflows.api.streams.places import Places
from workflows.edge import access
from workflows.errors import TooManyStreams, WorkflowsError
from workflows.models import Organization
from workflows.streams.changes import OrganizationStream, RunStream
from workflows.streams.holders import Holder
from workflows.streams.hub import RETRY, Hub, Source

PARAMETERS = ("org", "lastEventId")
KEEP_ALIVE_S = 15.0
LONGEST_S = 3_600.0
STILL_HERE = b": still here\n\n"
SLOT = "headrace.stream"
"""The key of the ASGI scope under which `Front` looks for the view's ticket."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a view has admitted: who reads what."""

    source: Source
    holder: Holder


def run_stream(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """The changes of a run, until it has ended."""
    return _stream(request, lambda organization, last_id: RunStream.open(organization, run_id, last_id))


def organization_stream(request: HttpRequest) -> HttpResponseBase:
    """The changes of all runs of the organization."""
    return _stream(request, OrganizationStream.open)


def _stream(request: HttpRequest, open_: Callable[[Organization, str], Source]) -> HttpResponseBase:
    if request.method != "GET":
        return problem(405, "method_not_allowed", "Streams are read with GET.")
    try:
        known = _organization(request)
    except WorkflowsError as error:
        return problem(error.status, error.code, str(error))
    if known is None:
        return problem(401, "unauthorized", "Send a valid API key: Authorization: Bearer hr_api_…")
    organization, holder = known
    try:
        query.settle(request, PARAMETERS)
    except WorkflowsError as error:
        return problem(error.status, error.code, str(error))
    wanted = request.GET.get("org", organization.slug)
    if wanted not in {organization.slug, str(organization.id)}:
        return problem(404, "not_found", "The key belongs to another organization.")
    try:
        source = open_(organization, request.headers.get("Last-Event-ID", "") or request.GET.get("lastEventId", ""))
        return _answer(request, Ticket(source=source, holder=holder))
    except TooManyStreams as error:
        return too_many(error)
    except WorkflowsError as error:
        return problem(error.status, error.code, str(error))


def _organization(request: HttpRequest) -> tuple[Organization, Holder] | None:
    """By API key; or for a browser that is logged in, the one that its login sees. Raises Forbidden, NoOrganization."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        key = ApiKeyAuth().authenticate(request, header.removeprefix("Bearer ").strip())
        return (key.organization, Holder(kind="key", id=str(key.id), org_id=key.organization_id)) if key else None
    if request.user.is_authenticated and request.session.session_key:
        organization = access.organization_of_request(request)
        return organization, Holder(kind="session", id=request.session.session_key, org_id=organization.id)
    return None


def too_many(error: TooManyStreams) -> HttpResponse:
    """The problem document of a refused stream."""
    response = problem(error.status, error.code, str(error))
    response["Retry-After"] = str(error.retry_after_s)
    return response


def _answer(request: HttpRequest, ticket: Ticket) -> HttpResponseBase:
    """The ticket for the front, or where there is none the stream itself."""
    response: HttpResponseBase
    if not isinstance(request, ASGIRequest):
        response = StreamingHttpResponse(Body(ticket))
    elif SLOT in request.scope:
        request.scope[SLOT].ticket = ticket
        response = HttpResponse()
    else:
        return problem(503, "streams_unavailable", "This server has no streams: serve config.asgi:application.")
    response["Content-Type"] = "text/event-stream"
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


class Body:
    """A stream for a server with a thread per request. Raises TooManyStreams; `close` gives everything back, once."""

    def __init__(self, ticket: Ticket) -> None:
        self._hub = this_process.own(Hub)
        self._place = this_process.own(Places).take(ticket.holder)
        self._woken = threading.Event()
        self._until = time.monotonic() + LONGEST_S
        self._is_over = False
        self._first = RETRY
        try:
            self._subscription = self._hub.follow(ticket.source, ticket.holder, self._woken.set)
        except BaseException:
            self._place.release()
            raise

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        if self._first:
            connections.close_all()  # the view's: Django would give it back at the end of the stream only
            first, self._first = self._first, b""
            return first
        while not self._is_over and time.monotonic() < self._until:
            self._woken.clear()
            chunk, self._is_over = self._subscription.take()
            if chunk:
                return chunk
            if not self._is_over and not self._woken.wait(KEEP_ALIVE_S):
                return STILL_HERE
        raise StopIteration

    def close(self) -> None:
        self._hub.leave(self._subscription)
        self._place.release()
