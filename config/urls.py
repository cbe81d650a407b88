"""Addresses: the dashboard at `/`, the API, Django admin, health."""

import importlib

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from config import api  # noqa: F401  (its documentation)
from headrace.routes import of_programs
from workflows.dashboard.login import admin_login, dashboard_login

handler500 = "workflows.api.edge.middleware.server_error"


def no_icon(_: HttpRequest) -> HttpResponse:
    """Browsers ask for it on pages that name none."""
    return HttpResponse(status=204)


admin.autodiscover()
for name in ("others", "periodic"):  # after those that they take the place of
    importlib.import_module(f"workflows.admin.{name}")
urlpatterns = [
    path("favicon.ico", no_icon),
    path("admin/login/", admin_login),
    path("admin/", admin.site.urls),
    path("login/", dashboard_login, name="login"),
    *of_programs,
    path("alerts/", include("dlq.dashboard.alerts.urls")),
    path("letters/", include("dlq.dashboard.urls")),
    path("", include("workflows.dashboard.urls")),
]
