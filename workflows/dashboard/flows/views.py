"""The list of flows, and the page of one."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters
from workflows.dashboard.access import page
from workflows.dashboard.flows import drawing, rows
from workflows.definitions import document
from workflows.edge import access
from workflows.edge.access import CHANGE_FLOWS
from workflows.errors import FlowNotFound
from workflows.models import Flow, FlowVersion, Organization
from workflows.selectors.pages import flows as selectors
from workflows.services import pauses

TABS = {
    "overview": "Overview",
    "definition": "Definition",
    "versions": "Versions",
    "triggers": "Triggers",
    "limits": "Limits",
}
SHOWN_FIRES = 5


@page()
@require_GET
def flows(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The flows: how they do, what starts them, when next, and whether they are paused."""
    archived = request.GET.get("archived") == "true"
    search = request.GET.get("q", "").strip()
    found = selectors.flow_page(
        organization, archived=archived, search=search, after=request.GET.get("after", "")
    )  # fmt: skip
    stops = _stops(organization)
    health = selectors.health(found.flows)
    live, is_cut = selectors.live_runs(organization)
    in_clear = access.allows(request.user, CHANGE_FLOWS, organization)
    context = {
        "flows": [rows.flow_row(each, stops.get(each.slug), health[each.id], live, in_clear=in_clear)
                  for each in found.flows],
        "whole": stops.get(""), "archived": archived, "search": search, "following": found.following,
        "live_is_cut": is_cut, "runs_shown": selectors.RUNS_SHOWN,
    }  # fmt: skip
    return render(request, "headrace/flows/list.html", context)


def _stops(organization: Organization) -> dict[str, dict[str, Any]]:
    """What is paused or draining, by the slug of the flow; "" for the whole organization."""
    return {each["flow"] or "": each for each in pauses.stopped(organization) if each["what"] != "queue"}


@page()
@require_GET
def flow(request: HttpRequest, organization: Organization, slug: str) -> HttpResponse:
    """One flow; `?tab=` chooses what of it."""
    try:
        found = selectors.find_flow(organization, slug)
    except FlowNotFound as error:
        raise Http404(str(error)) from None
    tab = request.GET.get("tab", "overview")
    tab = tab if tab in TABS else "overview"
    stop = _stops(organization).get(slug)
    in_clear = access.allows(request.user, CHANGE_FLOWS, organization)
    triggers = [rows.trigger_row(each, in_clear=in_clear, fires=SHOWN_FIRES) for each in found.triggers.all()]
    live, is_cut = selectors.live_runs(organization)
    context: dict[str, Any] = {
        "flow": found, "tab": tab, "tabs": TABS.items(), "state": rows.state_of(found, stop), "stop": stop,
        "triggers": triggers, "health": selectors.health([found])[found.id], "most": selectors.MOST_COUNTED,
        "runs_count": selectors.count_runs(found),
        "live_runs": f"{live.get(found.id, 0)}{' or more' if is_cut else ''}",
    }  # fmt: skip
    parts = {"overview": _overview, "definition": _definition, "versions": _versions, "triggers": _fires,
             "limits": _limits}  # fmt: skip
    return render(request, "headrace/flows/flow.html", {**context, **parts[tab](request, found)})


def _overview(_: HttpRequest, found: Flow) -> dict[str, Any]:
    compiled, problem = selectors.compiled(found.current_id)
    return {
        "drawings": drawing.drawings(compiled) if compiled else [],
        "steps": list(compiled.steps.values()) if compiled else [],
        "problem": problem,
        "discovered": selectors.discovered(found) if found.kind == Flow.Kind.CODE else [],
        "runs": presenters.run_summaries(selectors.latest_runs(found)),
    }


def _definition(_: HttpRequest, found: Flow) -> dict[str, Any]:
    version = found.current
    return {"version": version, "text": text_of(version) if version else ""}


def _versions(request: HttpRequest, found: Flow) -> dict[str, Any]:
    listed = selectors.versions(found)
    newer = _number(request, "to") or (listed[0].number if listed else 0)
    older = _number(request, "from") or newer - 1
    before, after = selectors.version(found, older), selectors.version(found, newer)
    return {
        "versions": listed, "older": older, "newer": newer, "shown_most": selectors.VERSIONS_SHOWN,
        "before": text_of(before) if before else "", "after": text_of(after) if after else "",
        "missing": [number for number, row in ((older, before), (newer, after)) if row is None],
    }  # fmt: skip


def _number(request: HttpRequest, name: str) -> int:
    """A version's number of the query; 0 for none, and for what is none."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def text_of(version: FlowVersion) -> str:
    """The YAML that it was published from, or the same made of what is stored."""
    return version.source or document.dumps(version.definition)


def _fires(_: HttpRequest, found: Flow) -> dict[str, Any]:
    return {"fires": selectors.latest_fires([found])[found.id], "now": timezone.now()}


def _limits(_: HttpRequest, found: Flow) -> dict[str, Any]:
    limits, problem = selectors.limits_of(found)
    return {"limits": limits, "problem": problem}
