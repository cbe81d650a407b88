"""Addresses: the dashboard at `/`, the API, Django admin, health."""

from django.contrib import admin
from django.urls import include, path

from workflows.api.routes import api, healthz, readyz

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("healthz", healthz),
    path("readyz", readyz),
    path("", include("workflows.dashboard.urls")),
]
