"""Django over ASGI with one change of threads per request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from workflows.api.edge.middleware import refuse
from workflows.edge.unavailable import RETRY_AFTER_S

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Middleware = Callable[[Any], Any]
SHORT = "headrace.short"
"""Where the scope of a request may have what answers it in place of Django, within its thread: a function that returns
the messages of the answer, or None where Django is to answer."""
MOST_OPEN = 512
"""Requests that a process holds, those that wait for a thread included. The next ones are refused at once."""


class ThreadHandler(ASGIHandler):
    """Middlewares, view and answer of a request run in one thread, of a few that the process keeps.

    Django's own handler goes back to the event loop between an asynchronous middleware and a synchronous one, starts a
    thread for each request, and changes threads for each signal: fifteen changes for the shortest request.

    `threads`: as many as there are connections to Postgres; another one would only wait for one. `middlewares`: those
    that a refusal for want of threads passes through (they give every answer its headers).
    """

    def __init__(self, threads: int, middlewares: Sequence[Middleware] = (), most_open: int = MOST_OPEN) -> None:
        super().__init__()
        self._refuse: Callable[[HttpRequest], HttpResponseBase] = _overloaded
        for middleware in reversed(middlewares):
            self._refuse = middleware(self._refuse)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._most_open = most_open
        self._open = 0

    def load_middleware(self, is_async: bool = False) -> None:
        """Load them as synchronous ones, whatever the server is."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; `send` is called when it is over. Nothing is sent to a client that has gone."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            if self._open >= self._most_open:
                start, content = _messages(self._answer(scope, body, self._refuse))
            else:
                self._open += 1
                try:
                    loop = asyncio.get_running_loop()
                    start, content = await loop.run_in_executor(self._threads, self._respond, scope, body)
                finally:
                    self._open -= 1
        await send(start)
        await send(content)

    def _respond(self, scope: Scope, body: IO[bytes]) -> tuple[Message, Message]:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        short: Callable[[], tuple[Message, Message] | None] | None = scope.get(SHORT)
        if short is not None and (messages := short()) is not None:
            signals.request_finished.send(sender=self.__class__)
            return messages
        response = self._answer(scope, body, self.get_response)
        try:
            return _messages(response)
        finally:
            response.close()

    def _answer(self, scope: Scope, body: IO[bytes], answer: Callable[[Any], HttpResponseBase]) -> HttpResponseBase:
        """The answer to a request, or the refusal of one that is none."""
        request, refused = self.create_request(scope, body)
        response = answer(request) if request is not None else refused
        assert response is not None
        return response


def _messages(response: HttpResponseBase) -> tuple[Message, Message]:
    """The answer as ASGI has it. A streamed one is read to its end: it is read from here, not from the client."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"Set-Cookie", cookie.output(header="").strip().encode("ascii")) for cookie in response.cookies.values()
    ]
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    return start, {"type": "http.response.body", "body": b"".join(response), "more_body": False}


def _overloaded(request: HttpRequest) -> HttpResponseBase:
    response = refuse(request, 503, "overloaded", "This process has more requests than it can answer; try again.")
    response["Retry-After"] = str(RETRY_AFTER_S)
    return response
