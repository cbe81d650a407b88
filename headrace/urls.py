"""Headrace in a project: `path("headrace/", include("headrace.urls"))`.

The dashboard is at the top of it, the REST API at `api/`; events, webhooks and callbacks come to `e/`, `hooks/` and
`callbacks/`. What the project's own middlewares do not do, each view here does for itself: refusals are problem
documents, and a view has its own transactions whatever `ATOMIC_REQUESTS` says.
"""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

from headrace.mounting import mounted
from headrace.routes import of_programs


def nothing(request: HttpRequest, rest: str) -> HttpResponse:
    """What is no address of the API is a problem document too."""
    raise Http404


urlpatterns: list[URLPattern | URLResolver] = mounted(
    [
        *of_programs,
        path("api/<path:rest>", nothing),
        path("alerts/", include("dlq.dashboard.alerts.urls")),
        path("letters/", include("dlq.dashboard.urls")),
        path("", include("workflows.dashboard.urls")),
    ]
)
