"""Saving and deleting views of the run list."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from workflows.dashboard.access import page, user_id
from workflows.dashboard.runs import query
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.services.own import views

KEPT = (*query.LABELS, "sort", "columns")


@page()
@require_POST
def save(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Keep the list as it is shown (filters, order, columns) under a name."""
    given = parse_qsl(request.POST.get("query", "")[: 2 * views.MAX_QUERY])
    text = urlencode([(name, value) for name, value in given if name in KEPT])
    address = f"{reverse('headrace:runs')}?{text}"
    try:
        view = views.save(organization, user_id(request), request.POST.get("name", ""), text)
        messages.success(request, f"The view {view.name} is saved.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return HttpResponseRedirect(address)


@page()
@require_POST
def delete(request: HttpRequest, organization: Organization, view_id: UUID) -> HttpResponse:
    """Delete one of the login's own views."""
    if views.delete(organization, user_id(request), view_id):
        messages.success(request, "The view is deleted.")
    return redirect("headrace:runs")
