"""The page on which a definition is written: checked as often as its author likes, then published."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from workflows.dashboard.access import page
from workflows.dashboard.flows.views import text_of
from workflows.definitions.validate import DefinitionProblems
from workflows.edge.access import CHANGE_FLOWS
from workflows.edge.values import whole_number
from workflows.errors import FlowNotFound, InvalidInput, WorkflowsError
from workflows.models import Flow, Organization
from workflows.selectors.pages import flows as selectors
from workflows.services.flows import editing

NEW = """\
flow: my-flow
name: My flow
on:
  - event: my/event
input_schema:
  type: object
  required: [name]
  properties:
    name: {type: string, default: world}
steps:
  - id: greet
    type: data_transform
    config:
      expression: "{'text': 'Hello ' + input.name}"
"""
MOST_SHOWN = 50


@page(CHANGE_FLOWS)
@require_http_methods(["GET", "POST"])
def new_flow(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Write a new flow."""
    return _edit(request, organization, None, NEW)


@page(CHANGE_FLOWS)
@require_http_methods(["GET", "POST"])
def edit_flow(request: HttpRequest, organization: Organization, slug: str) -> HttpResponse:
    """Write the next version of a flow. `?version=`: begin with the text of that one."""
    try:
        flow = selectors.find_flow(organization, slug)
    except FlowNotFound as error:
        raise Http404(str(error)) from None
    editing.refuse_code(flow)
    begin = flow.current
    if wanted := request.GET.get("version", ""):
        begin = selectors.version(flow, whole_number(wanted) or 0)
        if begin is None:
            raise Http404(f"There is no version {wanted[:20]} of {slug}.")
    return _edit(request, organization, flow, text_of(begin) if begin else NEW)


def _edit(request: HttpRequest, organization: Organization, flow: Flow | None, begin: str) -> HttpResponse:
    current = flow.current if flow else None
    context: dict[str, Any] = {
        "flow": flow, "seen": editing.number_of(flow), "before": text_of(current) if current else "",
        "text": begin,
    }  # fmt: skip
    if request.method == "GET":
        return render(request, "headrace/flows/edit.html", context)
    context["text"] = request.POST.get("text", "").replace("\r\n", "\n")
    seen = whole_number(request.POST.get("seen", ""))
    if seen is None:
        raise InvalidInput("seen: the number of the version that was changed; 0 for a new flow.")
    try:
        if request.POST.get("go") == "publish":
            applied = editing.publish(organization, context["text"], flow, seen=seen)
            messages.success(request, editing.sentence_of(applied))
            return redirect("headrace:flow", slug=applied.flow.slug)
        editing.check(organization, context["text"], flow)
        context |= {"is_checked": True, "seen": seen}
    except DefinitionProblems as error:
        context |= {"problems": [str(each) for each in error.problems[:MOST_SHOWN]], "seen": seen,
                    "more": max(0, len(error.problems) - MOST_SHOWN)}  # fmt: skip
    except WorkflowsError as error:  # with the version that there is now: published again, the text replaces it
        context["problems"] = [str(error)]
    return render(request, "headrace/flows/edit.html", context)
