"""The page of workers and queues: who works, what waits, and the switches that stop a queue or the organization."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from throttling.names import Scope
from workflows import selectors
from workflows.dashboard.access import page
from workflows.edge import access
from workflows.edge.access import STOP_FLOWS
from workflows.errors import Forbidden, WorkflowsError
from workflows.models import Organization
from workflows.selectors import limits as limit_selectors
from workflows.services import pauses
from workflows.services.pauses import Subject
from workflows.steps.registry import QUEUES

VERBS = {"pause": "Nothing new starts", "drain": "No run starts; those that have started go on", "resume": "It goes on"}


@page()
@require_GET
def workers(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Workers, queues, and what is stopped; the part that changes alone for htmx."""
    stops = pauses.stopped(organization)
    of_queues = {each["queue"]: each for each in stops if each["what"] == "queue"}
    live = selectors.live_workers()
    states = {
        line.state.name.subject: line.state
        for line in limit_selectors.overview(organization)
        if line.state is not None and line.state.name.scope is Scope.QUEUE
    }
    queues = [
        {
            "name": name,
            "workers": sum(1 for worker in live if name in worker.queues),
            "state": states.get(name),
            "stop": of_queues.get(name),
        }
        for name in QUEUES
    ]
    context: dict[str, Any] = {
        "workers": live,
        "queues": queues,
        "whole": next((each for each in stops if each["what"] == "organization"), None),
        "is_operator": access.is_operator(request.user),
    }
    part = request.headers.get("HX-Request")
    return render(request, "headrace/workers/_now.html" if part else "headrace/workers/workers.html", context)


@page()
@require_POST
def turn_queue(request: HttpRequest, organization: Organization, name: str, verb: str) -> HttpResponse:
    """Pause a queue of all organizations, or let it go on: an operator's."""
    if verb not in {"pause", "resume"}:
        raise Http404
    if not access.is_operator(request.user):
        raise Forbidden("A queue serves all organizations: an operator of the installation stops it.")
    subject = pauses.queue(name)
    return _turned(request, subject, verb)


@page(STOP_FLOWS)
@require_POST
def turn_organization(request: HttpRequest, organization: Organization, verb: str) -> HttpResponse:
    """Pause or drain all flows of the organization, or let them go on."""
    if verb not in VERBS:
        raise Http404
    return _turned(request, Subject(organization=organization), verb)


def _turned(request: HttpRequest, subject: Subject, verb: str) -> HttpResponse:
    by = request.user.get_username()
    try:
        if verb == "resume":
            pauses.resume(subject, by=by)
        else:
            mode: pauses.Mode = "drain" if verb == "drain" else "pause"
            pauses.stop(subject, mode=mode, reason=request.POST.get("reason", "").strip(), by=by)
        messages.success(request, f"{VERBS[verb]}: {subject}.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace:workers")
