"""The audit log of the pages: one entry for each form that changed something, in one transaction with the change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from workflows.models import AuditEntry, Organization
from workflows.services.access import audit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
VERBS: Mapping[str, tuple[str, str, str]] = {
    "cancel": ("run.cancel", "run", "run_id"),
    "replay": ("run.{mode}", "run", "run_id"),
    "stop_flow": ("flow.{mode}", "flow", "slug"),
    "approval": ("approval.decide", "approval", "step_run_id"),
}
"""By the name of a page: the verb, and what it is done to. Of another one it is `page.<its name>`."""
BY_PARTS = frozenset({"delete_flow"})
"""Pages with several transactions: their entries are written after the last one."""


def page(
    request: HttpRequest, organization: Organization, view: Callable[[], HttpResponseBase], kwargs: Mapping[str, Any]
) -> HttpResponseBase:
    """The answer of a page; with it, where it has changed something, the entry."""
    if request.method in SAFE:
        return view()
    match = request.resolver_match
    name = match.url_name if match is not None and match.url_name else "page"
    if name in BY_PARTS:
        response = view()
        _write(request, organization, name, kwargs, response)
        return response
    with transaction.atomic():
        response = view()
        _write(request, organization, name, kwargs, response)
    return response


def _write(
    request: HttpRequest, organization: Organization, name: str, kwargs: Mapping[str, Any], response: HttpResponseBase
) -> None:
    if response.status_code >= 400 or _is_refused(request):
        return
    verb, kind, id_ = VERBS.get(name, (f"page.{name}", "", ""))
    actor = audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username())
    given = {key: str(value) for key, value in kwargs.items()}
    form = {name: text for name, text in request.POST.items() if name != "csrfmiddlewaretoken"}
    details = {**given, **form}
    audit.record(organization.id, actor, verb.format_map(given), kind=kind, id=given.get(id_, ""), details=details)


def _is_refused(request: HttpRequest) -> bool:
    """Whether the page says that it could not be done: pages say so in a message, and show the list again."""
    said = getattr(messages.get_messages(request), "_queued_messages", ())  # reading them would use them up
    return any(each.level >= messages.WARNING for each in said)
