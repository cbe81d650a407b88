"""The REST API of the whole project: the workflows' routes, and those of dead letters and alerts."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI, Swagger

from dlq.api import alerts_router, router
from workflows.api import routes


class LocalSwagger(Swagger):
    """The page of the documentation, with its scripts from here. (Ninja would take them from elsewhere, since it is no
    installed app.)"""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        settings = {**self.settings, "url": self.get_openapi_url(api, kwargs)}
        context = {"swagger_settings": json.dumps(settings, indent=1), "api": api, "add_csrf": False}
        return render(request, self.template, context)


def make_api() -> NinjaAPI:
    """The API with all routers."""
    made = routes.make_api()
    made.docs = LocalSwagger()
    made.add_router("/dlq", router)
    made.add_router("/alerts", alerts_router)
    return made


api = make_api()
