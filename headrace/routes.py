"""The addresses that programs call, and those of health checks."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from headrace.api import api
from workflows.api import ingest
from workflows.api.health import healthz, readyz
from workflows.api.streams import routes

of_programs: list[URLPattern | URLResolver] = [
    path("api/runs/<uuid:run_id>/stream", routes.run_stream),
    path("api/stream", routes.organization_stream),
    path("api/", api.urls),
    path("e/<str:key>", ingest.receive),
    path("hooks/<str:token>", ingest.webhook),
    path("callbacks/<str:token>", ingest.callback),
    path("healthz", healthz),
    path("readyz", readyz),
]
