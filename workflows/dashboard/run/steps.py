"""The panel of a step: its bodies, tries and logs; what it waits for; the limits that it meets; its items."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from workflows import presenters
from workflows.dashboard import links
from workflows.dashboard.access import page
from workflows.dashboard.run.read import BODIES, body_of, download, step_of, step_value
from workflows.errors import WorkflowsError
from workflows.models import Organization, Wait
from workflows.selectors import items, waiting_reasons
from workflows.selectors.around_run.letters import letters_of
from workflows.selectors.runs import StepDetail

ITEMS_AT_ONCE = 50


@page()
@require_GET
def step_body(request: HttpRequest, organization: Organization, run_id: UUID, key: str) -> HttpResponse:
    """A step's input, output, error, tries and logs."""
    step = step_of(organization, run_id, key)
    row = step.step_run
    attempts = [presenters.attempt_out(attempt) for attempt in step.attempts]
    error = presenters.step_out(step)["error"]
    letters = [each for each in letters_of(row.run) if each.step_key == key] if error else []
    context: dict[str, Any] = {
        "row": row,
        "tab": f"s{row.id.hex}",
        "attempts": attempts,
        "logs": [{**line, "try": each["number"]} for each in attempts for line in each["logs"]],
        "error": error,
        "letters": [{"id": each.id, "status": each.status, "url": links.letter(each.id)} for each in letters],
        "has_items": step.fan_out is not None,
        "wait": _wait(step),
        "first": _first_tab(step, error),
        "run_id": run_id,
    }
    for what in BODIES:
        context[what] = body_of(step_value(step, what), reverse("headrace:step_download", args=[run_id, key, what]))
    return render(request, "headrace/run/_step_body.html", context)


def _first_tab(step: StepDetail, error: Any) -> str:
    if step.step_run.status == "waiting" and step.step_run.waiting_for in {"event", "approval", "run"}:
        return "wait"
    if step.step_run.status in {"ready", "pending"}:
        return "limits"
    return "error" if error else "output"


def _wait(step: StepDetail) -> dict[str, Any] | None:
    """What a step waits (or waited) for, by its row; that is gone once the outcome is recorded, its config is not."""
    row = step.step_run
    if not row.type.startswith("wait_for") and row.type != "invoke_flow":
        return None
    wait = Wait.objects.filter(step_run_id=row.id).first()
    source = step.compiled.template.source if step.compiled else None
    config = step_value(step, "input") or source or {}
    return {
        "row": wait,
        "config": config if isinstance(config, dict) else {},
        "condition": wait.condition if wait else "",
        "deadline": wait.expires_at if wait else None,
        "child": wait.child_id if wait else None,
        "event_url": links.event(wait.event_id) if wait and wait.event_id else "",
        "approval": row.id if row.status == "waiting" and row.waiting_for == "approval" else None,
        "output": step_value(step, "output") if row.type == "wait_for_event" else None,
    }


@page()
@require_GET
def step_limits(request: HttpRequest, organization: Organization, run_id: UUID, key: str) -> HttpResponse:
    """Why the step waits, and the limits that it meets."""
    step = step_of(organization, run_id, key)
    shown = presenters.step_out(step)
    try:
        reason = waiting_reasons.explain(organization, step.step_run.id)[0].reason
    except WorkflowsError as error:
        raise Http404(str(error)) from None
    context = {"reason": reason, "step": shown, "config": shown["throttlingConfig"], "limits_url": links.limits()}
    return render(request, "headrace/run/_limits.html", context)


@page()
@require_GET
def step_items(request: HttpRequest, organization: Organization, run_id: UUID, key: str) -> HttpResponse:
    """The items of a container, page by page."""
    step = step_of(organization, run_id, key)
    status = request.GET.get("status", "")
    found, more = items.items_page(
        organization, step.step_run.id, status=status, limit=ITEMS_AT_ONCE, cursor=request.GET.get("cursor", "")
    )
    context = {
        "items": [presenters.item_out(each) for each in found],
        "next_cursor": more,
        "status": status,
        "summary": presenters.step_out(step)["items"],
        "address": reverse("headrace:step_items", args=[run_id, key]),
    }
    return render(request, "headrace/run/_items.html", context)


@page()
@require_GET
def step_download(request: HttpRequest, organization: Organization, run_id: UUID, key: str, what: str) -> HttpResponse:
    """The input or output of a step as a file."""
    step = step_of(organization, run_id, key)
    if what not in BODIES:
        raise Http404
    return download(step_value(step, what), f"{run_id}-{key}-{what}.json")
