"""The pages of what people decide: approvals."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from workflows.dashboard.access import page
from workflows.edge import access
from workflows.edge.access import CHANGE_ORGANIZATION, CHANGE_RUNS
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.services import approvals
from workflows.services.approvals import ApprovalNotFound, Decider


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
    return render(request, "headrace/approvals.html", {"approvals": rows, "has_more": len(found) >= approvals.MAX_OPEN})


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
