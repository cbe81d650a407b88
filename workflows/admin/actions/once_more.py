"""The page between an admin action that repairs a second time and its doing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest
from django.template.response import TemplateResponse


def confirmation(site: admin.AdminSite, request: HttpRequest, rows: Any, description: str) -> TemplateResponse | None:
    """The page that asks whether to repair the rows once more; none where that has been confirmed."""
    if request.POST.get("confirmed") == "yes":
        return None
    context = {
        **site.each_context(request),
        "title": "Repair once more?",
        "description": description,
        "rows": rows,
        "action": request.POST["action"],
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/headrace_workflows/repair_once_more.html", context)
