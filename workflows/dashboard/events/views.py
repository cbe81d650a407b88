"""The stream of events, one event, and sending it again."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from workflows import presenters
from workflows.dashboard.access import page
from workflows.edge.access import RUN_FLOWS
from workflows.edge.values import identifier
from workflows.errors import EventNotFound, WorkflowsError
from workflows.models import Organization
from workflows.models.event import SYSTEM
from workflows.presenters import redaction
from workflows.selectors import events as selectors
from workflows.selectors.pages import events as page_selectors
from workflows.selectors.upkeep.absence import absence
from workflows.services import events as services

SHOWN_CHARACTERS = 200_000


@page()
@require_GET
def events(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The stream: `?name=`, `?kind=rejected` or `unheard`, page by page."""
    name, kind, cursor = (request.GET.get(each, "").strip() for each in ("name", "kind", "cursor"))
    found = page_selectors.stream(organization, name=name, kind=kind, cursor=cursor)
    is_top = not (cursor or name or kind)
    context = {
        "rows": found.rows, "following": found.following, "searched_to": found.searched_to, "name": name, "kind": kind,
        "kinds": page_selectors.KINDS.items(), "newest": str(found.rows[0].event.id) if found.rows and is_top else "",
    }  # fmt: skip
    return render(request, "headrace/events/stream.html", context)


@page()
@require_GET
def new_events(request: HttpRequest, organization: Organization) -> HttpResponse:
    """How many events came after `?after=`: the list itself doesn't move under the reader."""
    after = identifier(request.GET.get("after", ""), "after")
    count = page_selectors.count_new(organization, after)
    context = {"newest": str(after), "count": count, "most": page_selectors.MOST_NEW}
    return render(request, "headrace/events/_new.html", context)


@page()
@require_GET
def event(request: HttpRequest, organization: Organization, event_id: UUID) -> HttpResponse:
    """One event: its payload, the runs that it made, and why there are no more."""
    try:
        detail = selectors.event_detail(organization, event_id)
    except EventNotFound:
        raise Http404(absence(organization, event_id, "event")) from None
    found = detail.event
    row = page_selectors.EventRow(event=found, runs=len(detail.runs))
    body = json.dumps(redaction.payload(organization.id, found.data, "data"), indent=2, ensure_ascii=False)
    context: dict[str, Any] = {
        "event": found, "state": row.state, "runs": presenters.run_summaries(detail.runs),
        "outcomes": [presenters.outcome_out(each, detail.flows) for each in detail.outcomes],
        "listeners": page_selectors.listeners(organization, found),
        "body": body[:SHOWN_CHARACTERS], "is_cut": len(body) > SHOWN_CHARACTERS,
        "is_system": found.name.startswith(SYSTEM),
        "schema": page_selectors.schema(organization, found.name),
    }  # fmt: skip
    return render(request, "headrace/events/event.html", context)


@page()
@require_GET
def download(request: HttpRequest, organization: Organization, event_id: UUID) -> HttpResponse:
    """The event as `/api/events/<id>` gives it, as a file."""
    try:
        found = selectors.event_detail(organization, event_id).event
    except EventNotFound as error:
        raise Http404(str(error)) from None
    shown = redaction.answer(organization.id, presenters.event_out(found))
    answer = JsonResponse(shown, json_dumps_params={"indent": 2, "ensure_ascii": False})
    answer["Content-Disposition"] = f'attachment; filename="event-{event_id}.json"'
    return answer


@page(RUN_FLOWS)
@require_POST
def resend(request: HttpRequest, organization: Organization, event_id: UUID) -> HttpResponse:
    """Send an event again, as a new one, and show that."""
    try:
        sent = services.resend(organization, event_id)
    except EventNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:
        messages.error(request, str(error))
        return redirect("headrace:event", event_id=event_id)
    messages.success(request, "Sent again: this is the new event. What it makes is shown in a moment.")
    return redirect("headrace:event", event_id=sent)
