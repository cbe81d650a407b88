"""Addresses: the dashboard at `/`, the API, Django admin, health."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from config.api import api
from workflows.api import ingest
from workflows.api.health import healthz, readyz
from workflows.api.streams import routes
from workflows.dashboard.login import admin_login

handler500 = "workflows.api.edge.middleware.server_error"


def no_icon(_: HttpRequest) -> HttpResponse:
    """Browsers ask for it on pages that name none."""
    return HttpResponse(status=204)


admin.autodiscover()
urlpatterns = [
    path("favicon.ico", no_icon),
    path("admin/login/", admin_login),
    path("admin/", admin.site.urls),
    path("api/runs/<uuid:run_id>/stream", routes.run_stream),
    path("api/stream", routes.organization_stream),
    path("api/", api.urls),
    path("e/<str:key>", ingest.receive),
    path("hooks/<str:token>", ingest.webhook),
    path("callbacks/<str:token>", ingest.callback),
    path("healthz", healthz),
    path("readyz", readyz),
    path("", include("workflows.dashboard.urls")),
]
