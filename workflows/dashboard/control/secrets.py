"""The names of the organization's secrets: where each comes from, who uses it, which are missing. Never a value."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from workflows.dashboard.access import page
from workflows.edge.access import CHANGE_SECRETS
from workflows.edge.values import refuse_unstorable
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.selectors.access import secrets as selectors
from workflows.services.access import secrets as services
from workflows.steps.masking import SHORTEST
from workflows.steps.secret_rules import MAX_NAME

SHOWN = 300


@page(CHANGE_SECRETS)
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters("value")
def secrets(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The names; `?q=` those with this in them. `?name=` opens one (empty: the form of a new one). POST stores one."""
    if request.method == "POST":
        return _set(request, organization)
    name, search = request.GET.get("name"), request.GET.get("q", "").strip()
    refuse_unstorable(name=name, q=search)
    found = selectors.secret_names(organization)
    rows = [row for row in found.rows if search.casefold() in row.name.casefold()]
    context: dict[str, Any] = {
        "rows": rows[:SHOWN], "has_more": len(rows) > SHOWN, "search": search, "missing": found.missing,
        "failed_sources": found.failed_sources, "named": found.named, "is_open": name is not None,
        "name": (name or "")[:MAX_NAME],
        "chosen": next((row for row in found.rows if row.name == name), None),
    }  # fmt: skip
    return render(request, "headrace/control/secrets.html", context)


def _set(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Store a value. A refused one is typed anew: no page has what was typed."""
    name, value = request.POST.get("name", "").strip(), _as_typed(request.POST.get("value", ""))
    seen = request.POST.get("seen")
    try:
        row = services.set_secret(organization, name, value, seen=seen)
    except WorkflowsError as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('headrace:secrets')}?{urlencode({'name': name[:MAX_NAME]})}")
    short = f" It has fewer than {SHORTEST} characters, so it is masked only where it stands alone."
    messages.success(
        request,
        f"{row.name} is stored, encrypted: steps have it within ten seconds.{short if len(value) < SHORTEST else ''}",
    )
    return redirect("headrace:secrets")


def _as_typed(value: str) -> str:
    """The text without what a form makes of it: browsers send each end of a line as two characters, and a text that is
    pasted often ends with one."""
    return value.replace("\r\n", "\n").rstrip("\n")


@page(CHANGE_SECRETS)
@require_POST
def delete(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Delete a secret of the database, where the form has named all flows that are left without it."""
    name, seen = request.POST.get("name", ""), request.POST.get("flows", "").split()
    try:
        left = services.delete_secret(organization, name, seen=seen)
    except services.SecretInUse as error:
        messages.error(request, f"Nothing was deleted. {error}")
        return redirect(f"{reverse('headrace:secrets')}?{urlencode({'name': name})}")
    except WorkflowsError as error:
        messages.error(request, str(error))
        return redirect("headrace:secrets")
    messages.success(request, f"{name} is deleted from the database. {left.sentence}".strip())
    return redirect("headrace:secrets")
