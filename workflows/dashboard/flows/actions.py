"""What is done to a flow. Each form says which state was seen: of another one nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from workflows.dashboard.access import page
from workflows.dashboard.flows import rows
from workflows.edge import access
from workflows.edge.access import CHANGE_FLOWS, DELETE_FLOWS, STOP_FLOWS
from workflows.errors import FlowNotFound, InvalidInput, WorkflowsError
from workflows.models import Flow, Organization, Trigger
from workflows.selectors.pages import flows as selectors
from workflows.services import pauses, schedules
from workflows.services.flows import archiving

LISTS = ("flows", "schedules", "webhooks")
"""The lists whose rows have actions: the names of their addresses."""


@dataclass(frozen=True, kw_only=True)
class FlowRequest:
    """What a form asks for."""

    organization: Organization
    flow: Flow
    by: str
    reason: str
    arrivals: str


def _stop(asked: FlowRequest, mode: pauses.Mode) -> str:
    if asked.arrivals not in {"queue", "skip"}:
        raise InvalidInput(f"arrivals {asked.arrivals!r} is unknown; use queue or skip.")
    subject = pauses.flow(asked.organization, asked.flow.slug)
    arrivals: pauses.Arrivals = "skip" if asked.arrivals == "skip" else "queue"
    pauses.stop(subject, mode=mode, arrivals=arrivals, reason=asked.reason, by=asked.by)
    later = "What arrives is marked and dropped." if arrivals == "skip" else "What arrives waits."
    if mode == "pause":
        return f"{asked.flow.slug} is paused: what executes ends, no other step starts. {later}"
    return f"{asked.flow.slug} drains: the runs that have started go on to their ends, no other starts. {later}"


def _pause(asked: FlowRequest) -> str:
    return _stop(asked, "pause")


def _drain(asked: FlowRequest) -> str:
    return _stop(asked, "drain")


def _resume(asked: FlowRequest) -> str:
    pauses.resume(pauses.flow(asked.organization, asked.flow.slug), by=asked.by)
    return f"{asked.flow.slug} goes on: what waited starts in its old order."


def _archive(asked: FlowRequest) -> str:
    archiving.archive(asked.organization, asked.flow.slug, by=asked.by)
    return f"{asked.flow.slug} is archived: it starts nothing. Its versions and runs stay; publishing brings it back."


def _unarchive(asked: FlowRequest) -> str:
    archiving.unarchive(asked.organization, asked.flow.slug, by=asked.by)
    return f"{asked.flow.slug} is back, with the triggers that it had. What its schedules missed is not caught up."


def _delete(asked: FlowRequest) -> str:
    removal = archiving.delete(asked.organization, asked.flow.slug, history="delete", by=asked.by)
    if removal.is_done:
        return f"{asked.flow.slug} is deleted, with its versions, runs and dead letters."
    return f"{asked.flow.slug} is being deleted: its history goes in the background."


VERBS_OF_FLOWS: Final[Mapping[str, tuple[str, Callable[[FlowRequest], str]]]] = {
    "pause": (STOP_FLOWS, _pause),
    "drain": (STOP_FLOWS, _drain),
    "resume": (STOP_FLOWS, _resume),
    "archive": (CHANGE_FLOWS, _archive),
    "unarchive": (CHANGE_FLOWS, _unarchive),
    "delete": (DELETE_FLOWS, _delete),
}


@page()
@require_POST
def act(request: HttpRequest, organization: Organization, slug: str, mode: str) -> HttpResponse:
    """Pause, drain, resume, archive, bring back or delete a flow, and say what was done."""
    if mode not in VERBS_OF_FLOWS:
        raise Http404
    right, action = VERBS_OF_FLOWS[mode]
    back = _back(request, slug)
    access.require(request.user, right, organization)
    try:
        flow = selectors.find_flow(organization, slug)
        _check_seen(request, organization, flow)
        asked = FlowRequest(
            organization=organization, flow=flow, by=request.user.get_username(),
            reason=request.POST.get("reason", "").strip(), arrivals=request.POST.get("arrivals", "queue"),
        )  # fmt: skip
        messages.success(request, action(asked))
    except FlowNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:
        messages.error(request, str(error))
    else:
        if mode == "delete":
            back = reverse("headrace:flows")
    return redirect(back)


def _back(request: HttpRequest, slug: str) -> str:
    """The page that the form stands on."""
    name = request.POST.get("back", "")
    return reverse(f"headrace:{name}") if name in LISTS else reverse("headrace:flow", args=[slug])


def _check_seen(request: HttpRequest, organization: Organization, flow: Flow) -> None:
    """Raises InvalidInput where the flow is not any more as the one who asks has seen it."""
    seen = request.POST.get("seen", "")
    stop = next((each for each in pauses.stopped(organization) if each["flow"] == flow.slug), None)
    state = rows.state_of(flow, stop)
    if seen and seen != state:
        raise InvalidInput(f"{flow.slug} was {seen} when you looked, and is {state} now: nothing was changed.")


@page(CHANGE_FLOWS)
@require_POST
def switch_trigger(
    request: HttpRequest, organization: Organization, slug: str, trigger_id: UUID, mode: str
) -> HttpResponse:
    """Switch a trigger on or off."""
    if mode not in {"on", "off"}:
        raise Http404
    found = selectors.find_trigger(organization, slug, trigger_id)
    if found is None:
        raise Http404
    if found.enabled == (mode == "on"):
        messages.error(request, f"The trigger {found.key} of {slug} is {mode} already: nothing was changed.")
    else:
        schedules.switch(found, enabled=mode == "on")
        later = " What it missed while it was off is not caught up." if found.kind == Trigger.Kind.CRON else ""
        messages.success(request, f"The trigger {found.key} of {slug} is {mode} now.{later if mode == 'on' else ''}")
    back = _back(request, slug)
    return redirect(back if request.POST.get("back") in LISTS else f"{back}?tab=triggers")
