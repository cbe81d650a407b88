"""The documentation of the REST API, with its scripts from here."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI, Swagger

from headrace import api as rest


class LocalSwagger(Swagger):
    """The page of the documentation, with its scripts from here. (Ninja would take them from elsewhere, since it is no
    installed app.)"""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        settings = {**self.settings, "url": self.get_openapi_url(api, kwargs)}
        context = {"swagger_settings": json.dumps(settings, indent=1), "api": api, "add_csrf": False}
        return render(request, self.template, context)


api = rest.api
api.docs = LocalSwagger()
