"""The pages of what people decide: approvals, and which flows run, with their next fire times."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from workflows import selectors
from workflows.dashboard.access import page
from workflows.edge import access
from workflows.edge.access import CHANGE_FLOWS, CHANGE_ORGANIZATION, CHANGE_RUNS, STOP_FLOWS
from workflows.edge.path_tokens import mask_path_tokens
from workflows.errors import FlowNotFound, WorkflowsError
from workflows.models import Organization
from workflows.services import approvals, pauses, schedules
from workflows.services.approvals import ApprovalNotFound, Decider

SHOWN_FIRES = 3


@page()
@require_GET
def flows(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The flows: what starts them, when next, and whether they are paused."""
    stops = {each["flow"]: each for each in pauses.stopped(organization)}
    open_addresses = access.allows(request.user, CHANGE_FLOWS, organization)
    archived = request.GET.get("archived") == "true"
    found = selectors.flows(organization, archived=archived)
    rows = [_flow_row(summary, stops, open_addresses) for summary in found]
    whole = next((each for each in stops.values() if each["what"] == "organization"), None)
    return render(request, "headrace/flows.html", {"flows": rows, "whole": whole, "archived": archived})


def _flow_row(summary: selectors.FlowSummary, stops: dict[str, dict[str, Any]], open_addresses: bool) -> dict[str, Any]:
    triggers = list(summary.flow.triggers.all())
    texts = [str(each) if open_addresses else mask_path_tokens(str(each)) for each in triggers]
    crons = [each for each in triggers if each.kind == "cron" and each.enabled and not summary.flow.archived_at]
    fires = [at for each in crons for at in schedules.next_fires(each)]
    return {
        "flow": summary.flow,
        "triggers": [{"text": text, "enabled": each.enabled} for text, each in zip(texts, triggers, strict=True)],
        "live_runs": summary.live_runs,
        "next_fires": sorted(fires)[:SHOWN_FIRES],
        "stop": stops.get(summary.flow.slug),
    }


@page(STOP_FLOWS)
@require_POST
def stop_flow(request: HttpRequest, organization: Organization, slug: str, mode: str) -> HttpResponse:
    """Pause, drain or resume a flow, and show the list again."""
    by = request.user.get_username()
    try:
        subject = pauses.flow(organization, slug)
        if mode == "resume":
            pauses.resume(subject, by=by)
        elif mode in {"pause", "drain"}:
            pauses.stop(subject, mode=mode, by=by)  # type: ignore[arg-type]
        else:
            raise Http404
    except FlowNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace:flows")


@page()
@require_GET
def approvals_page(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What waits for a decision."""
    found = approvals.waiting(organization)
    decider = _decider(request, organization)
    rows = [
        {
            "facts": approvals.facts(each.wait),
            "run": each.run,
            "mine": decider.may_decide(each.wait) or decider.everything,
        }
        for each in found
    ]
    return render(request, "headrace/approvals.html", {"approvals": rows})


@page()
@require_http_methods(["GET", "POST"])
def approval(request: HttpRequest, organization: Organization, step_run_id: UUID) -> HttpResponse:
    """One approval: what it is about, and the buttons. Those whom the flow names may decide, without a permission."""
    if request.method == "POST":
        decision = request.POST.get("decision")
        if decision not in {"approve", "reject"}:
            return HttpResponseBadRequest("decision: approve or reject")
        approve = decision == "approve"
        try:
            comment = request.POST.get("comment", "")
            as_operator = request.POST.get("as_operator") == "yes"
            approvals.decide(
                organization,
                step_run_id,
                approve=approve,
                comment=comment,
                by=_decider(request, organization),
                as_operator=as_operator,
            )
            messages.info(request, "Approved." if approve else "Rejected.")
        except WorkflowsError as error:
            messages.error(request, str(error))
        return redirect("headrace:approvals")
    try:
        found = approvals.get(organization, step_run_id)
    except ApprovalNotFound as error:
        raise Http404(str(error)) from None
    decider = _decider(request, organization)
    mine = decider.may_decide(found.wait)
    context = {
        "facts": approvals.facts(found.wait),
        "run": found.run,
        "mine": mine or decider.everything,
        "in_their_place": decider.everything and not mine,
    }
    return render(request, "headrace/approval.html", context)


def _decider(request: HttpRequest, organization: Organization) -> Decider:
    user = request.user
    groups = user.groups.values_list("name", flat=True)
    roles = {f"user:{user.get_username()}", *(f"group:{name}" for name in groups)}
    return Decider(
        name=user.get_username(),
        roles=frozenset(roles),
        everything=access.allows(user, CHANGE_ORGANIZATION, organization),
        unnamed=access.allows(user, CHANGE_RUNS, organization),
    )
