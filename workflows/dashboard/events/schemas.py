"""The schemas of events: the form that the data of events of a name must have."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST

from workflows.dashboard.access import page
from workflows.definitions import document
from workflows.edge import access
from workflows.edge.access import CHANGE_FLOWS
from workflows.edge.values import refuse_unstorable
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import EventSchema, Organization
from workflows.selectors.pages import events as page_selectors
from workflows.services import events as services

EXAMPLE = '{\n  "type": "object",\n  "required": ["orderId"],\n  "properties": {"orderId": {"type": "string"}}\n}'


@page()
@require_http_methods(["GET", "POST"])
def schemas(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The schemas; `?name=` opens one, and `?name=` (empty) the form of a new one. POST stores one."""
    if request.method == "POST":
        return _put(request, organization)
    name = request.GET.get("name")
    chosen = page_selectors.schema(organization, name) if name else None
    text = json.dumps(chosen.schema, indent=2, ensure_ascii=False) if chosen else EXAMPLE
    return _show(request, organization, name=name, text=text, chosen=chosen)


def _show(
    request: HttpRequest,
    organization: Organization,
    *,
    name: str | None,
    text: str,
    chosen: EventSchema | None,
    problem: str = "",
) -> HttpResponse:
    search = request.GET.get("q", "").strip()
    listed, has_more = page_selectors.schemas(organization, search)
    heard = page_selectors.listens_in([each.name for each in listed], organization)
    context: dict[str, Any] = {
        "schemas": [{"row": each, "flows": heard.get(each.name, [])} for each in listed],
        "is_open": name is not None, "search": search, "has_more": has_more,
        "name": name or "", "text": text, "chosen": chosen, "problem": problem,
    }  # fmt: skip
    return render(request, "headrace/events/schemas.html", context, status=422 if problem else 200)


def _put(request: HttpRequest, organization: Organization) -> HttpResponse:
    name, text = request.POST.get("name", "").strip(), request.POST.get("schema", "")
    chosen = None
    try:
        access.require(request.user, CHANGE_FLOWS, organization)
        chosen = page_selectors.schema(organization, name)
        services.put_schema(organization, name, _parsed(text), seen=request.POST.get("seen", ""))
    except WorkflowsError as error:
        return _show(request, organization, name=name, text=text, chosen=chosen, problem=str(error))
    messages.success(request, f"Events named {name} must have this form from now on; others are refused and kept.")
    return redirect(f"{reverse('headrace:event_schemas')}?{urlencode({'name': name})}")


def _parsed(text: str) -> Any:
    try:
        found = document.loads(text, json_only=True)
    except WorkflowsError as error:
        raise InvalidInput(f"This is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput("A schema is an object.")
    return found


@page(CHANGE_FLOWS)
@require_POST
def delete(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Delete the schema of a name."""
    name = request.POST.get("name", "")
    try:
        refuse_unstorable(name=name)
        if services.delete_schema(organization, name, seen=request.POST.get("seen", "")):
            messages.success(request, f"Events named {name} may have any form again.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace:event_schemas")
