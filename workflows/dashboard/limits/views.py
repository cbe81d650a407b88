"""The pages of limits: how all of them stand, one with who waits at it, and who changed what."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from throttling.answers import LimitState
from throttling.defaults import BY_TYPE
from throttling.errors import ThrottlingError
from throttling.names import Kind, LimitInstance, Scope
from workflows.dashboard.access import page, refused
from workflows.edge import access
from workflows.edge.access import CHANGE_LIMITS
from workflows.errors import LimitNotFound
from workflows.models import Organization
from workflows.selectors import limit_subjects
from workflows.selectors import limits as limit_selectors
from workflows.selectors.limits import LimitLine
from workflows.selectors.pages import flows as flow_selectors
from workflows.steps.registry import REGISTRY

GROUPS = (
    ("Of the installation", {Scope.GLOBAL, Scope.RUNS}),
    ("Of the organization", {Scope.ORG, Scope.LIMIT, Scope.PROVIDER}),
    ("Of flows and their steps", {Scope.FLOW, Scope.RUN, Scope.STEP}),
    ("Of step types", {Scope.TYPE}),
    ("Of queues and pauses", {Scope.QUEUE, Scope.PAUSE, Scope.DRAIN, Scope.UNKNOWN}),
)
SHOWN_CHANGES = 100
SHOWN = 200
"""Limits of a group; those that are wanted most come first."""


@page()
@require_GET
def limits(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Every limit that the organization may meet; the tables alone for htmx."""
    lines = limit_selectors.overview(organization)
    names = _flow_names(organization, lines)
    rows = [_row(line, names) for line in lines]
    groups = [(title, [row for row in rows if row["scope"] in scopes]) for title, scopes in GROUPS]
    context: dict[str, Any] = {
        "groups": [(title, _most_wanted_first(shown)[:SHOWN], len(shown)) for title, shown in groups if shown],
        "is_away": any(line.state is None for line in lines),
        "waiting": sum(line.state.waiting for line in lines if line.state is not None),
    }
    if request.headers.get("HX-Request"):
        return render(request, "headrace/limits/_groups.html", context)
    context |= {
        "never_binding": limit_selectors.never_binding(organization),
        "types": sorted({*BY_TYPE, *REGISTRY}),
        "flows": flow_selectors.flow_names(organization),
        "may_change": access.allows(request.user, CHANGE_LIMITS, organization),
    }
    return render(request, "headrace/limits/limits.html", context)


def _most_wanted_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["waiting"], -row["percent"], row["what"]))


def _flow_names(organization: Organization, lines: list[LimitLine]) -> dict[Any, str]:
    named = {LimitInstance.parse(line.instance).name.flow_id for line in lines}
    return flow_selectors.slugs_of(organization, {each for each in named if each})


def _row(line: LimitLine, flows: dict[Any, str]) -> dict[str, Any]:
    """A line as the table shows it."""
    name = LimitInstance.parse(line.instance).name
    state = line.state
    used = _used(state) if state else 0
    flow = flows.get(name.flow_id, "") if name.flow_id else ""
    return {
        "line": line,
        "what": f"{line.what} ({flow})" if flow else line.what,
        "scope": name.scope,
        "url": f"?{urlencode({'limit': line.instance})}",
        "state": state,
        "used": used,
        "percent": min(100, round(100 * used / state.bound)) if state and state.bound else 0,
        "waiting": state.waiting if state else 0,
        "free_ms": round(state.next_free_s * 1_000) if state and state.next_free_s and state.waiting else None,
        "paused_ms": round(state.paused_s * 1_000) if state and state.paused_s else None,
    }


def _used(state: LimitState) -> int:
    return state.started + state.in_use if state.kind == Kind.WINDOW else state.in_use


@page()
@require_GET
def limit(request: HttpRequest, organization: Organization) -> HttpResponse:
    """One limit: its use, who waits at it, where its value comes from, and how it was changed."""
    instance = request.GET.get("limit", "")
    try:
        line = next((each for each in limit_selectors.overview(organization) if each.instance == instance), None)
    except ThrottlingError:
        line = None
    if line is None:
        return refused(
            request, LimitNotFound("There is no such limit, or nobody uses it now: the list has those of now.")
        )
    subject = limit_subjects.subject_of(organization, instance)
    operator = access.is_operator(request.user)
    context = {
        "row": _row(line, _flow_names(organization, [line])),
        "waiters": limit_subjects.waiters(organization, instance, everyone=operator),
        "subject": subject,
        "change": address_of(subject) if subject else "",
        "may_change": subject is not None and may_change(request, organization, subject),
        "why_fixed": "" if subject else limit_subjects.why_fixed(instance),
        "changes": limit_subjects.changes_of(subject) if subject else [],
        "mean_hold_ms": round(line.state.mean_hold_s * 1_000) if line.state else 0,
    }
    return render(request, "headrace/limits/limit.html", context)


def may_change(request: HttpRequest, organization: Organization, subject: limit_subjects.Subject) -> bool:
    """Whether the login may change the override of a subject: that of all organizations takes an operator."""
    if subject.of_all:
        return access.is_operator(request.user)
    return access.allows(request.user, CHANGE_LIMITS, organization)


def address_of(subject: limit_subjects.Subject) -> str:
    """What names a subject in the address of the page that changes it."""
    named = {"scope": subject.scope, "type": subject.type, "flow": subject.flow, "name": subject.name}
    given = {key: value for key, value in named.items() if value}
    if subject.of_all and subject.scope in {"type", "limit"}:
        given["all"] = "yes"
    return urlencode(given)


@page()
@require_GET
def history(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Who changed which override when."""
    everyone = access.is_operator(request.user) and request.GET.get("all") == "yes"
    changes = limit_selectors.history(organization, everyone=everyone, limit=SHOWN_CHANGES)
    return render(request, "headrace/limits/history.html", {"changes": changes, "everyone": everyone})
