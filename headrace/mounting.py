"""Views under a prefix of another project, with what Headrace's edge does around each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.handlers.exception import response_for_exception
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver

from workflows.api.edge.middleware import MOUNTED, EdgeMiddleware, is_machines

View = Callable[..., Any]
Routes = Sequence[URLPattern | URLResolver]


def mounted(patterns: Routes, above: str = "/") -> list[URLPattern | URLResolver]:
    """The same routes, each view with the edge around it."""
    made: list[URLPattern | URLResolver] = []
    for route in patterns:
        start = above + str(route.pattern)
        if isinstance(route, URLPattern):
            made.append(URLPattern(route.pattern, guarded(route.callback, start), route.default_args, route.name))
        else:
            inside = mounted(route.url_patterns, start)
            kwargs = route.default_kwargs
            made.append(URLResolver(route.pattern, inside, kwargs, app_name=route.app_name, namespace=route.namespace))
    return made


def guarded(view: View, address: str) -> View:
    """The view, as if the edge were one of the project's middlewares, and without the transaction of ATOMIC_REQUESTS.

    `address`: its route without the prefix. (An asynchronous view, those of health checks, needs no edge.)
    """
    if iscoroutinefunction(view):
        return transaction.non_atomic_requests(view)

    @functools.wraps(view)
    def with_edge(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        setattr(request, MOUNTED, address)

        def respond(request: HttpRequest) -> HttpResponseBase:
            try:
                refusal = edge.process_view(request, view, args, kwargs)
                return refusal or view(request, *args, **kwargs)
            except Exception as error:
                response = edge.process_exception(request, error)
                if response is not None:
                    return response
                if not is_machines(request):
                    raise
                return response_for_exception(request, error)

        edge = EdgeMiddleware(respond)
        return edge(request)

    return transaction.non_atomic_requests(with_edge)
