"""Repeating a run with changes: from its start, from what failed, or from any step, with another input.

What it would do is shown before it is done: the difference of the inputs, and the steps that run and that are kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from workflows import services
from workflows.dashboard.access import page
from workflows.dashboard.run.actions import has_changed, sentence_of
from workflows.dashboard.run.read import detail_of
from workflows.definitions.compiled import CompiledFlow
from workflows.edge.access import CHANGE_RUNS
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization, Run
from workflows.payload import MAX_EVENT_BYTES
from workflows.selectors.runs import RunDetail
from workflows.services import repair
from workflows.services.access import hidden
from workflows.services.repair import Repeat

MODES = ("start", "resume", "fork")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the form asks for."""

    mode: str
    step: str
    version: str
    text: str
    """The input, as JSON."""
    force: bool

    @property
    def digest(self) -> str:
        """What was previewed: another one is previewed first."""
        asked = json.dumps([self.mode, self.step, self.version, self.text, self.force])
        return hashlib.blake2s(asked.encode(), digest_size=8).hexdigest()


def input_schema(flow: CompiledFlow | None) -> dict[str, str]:
    """For forms: {schema_json}, the JSON Schema of the flow's input as text; empty where it has none."""
    schema = flow.input_schema if flow else None
    return {"schema_json": json.dumps(schema.source, default=dict) if schema else ""}


def editable_input(run: Run) -> str:
    """The input of a run as JSON that somebody may change: what the organization's rules hide is `***` in it."""
    value = hidden.editable(run.org_id, repair.own_input(run), "input", [run.id])
    return json.dumps(value, indent=2, ensure_ascii=False)


@page(CHANGE_RUNS)
@require_http_methods(["GET", "POST"])
def repeat(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """The form; what it would do; and the new run."""
    detail = detail_of(organization, run_id)
    original = editable_input(detail.run)
    wanted = _wanted(request, detail, original)
    context: dict[str, Any] = {
        "run": detail.run,
        "wanted": wanted,
        "steps": [step.step_run.key for step in detail.steps],
        **input_schema(detail.flow),
        "is_large": len(original) > MAX_EVENT_BYTES,
        "original": original,
    }
    if request.method != "POST":
        return render(request, "headrace/repeat.html", context)
    try:
        changed = has_changed(services.get_run(organization, run_id), request.POST.get("seen", ""))
        if changed:
            raise InvalidInput(changed)
        is_previewed = request.POST.get("previewed") == wanted.digest
        is_wanted = request.POST.get("go") == "make" and is_previewed
        value = repair.KEEP if wanted.text == original or context["is_large"] else _parsed(wanted.text)
        done = _repeat(request, organization, run_id, wanted, value, dry_run=not is_wanted)
    except WorkflowsError as error:
        return render(request, "headrace/repeat.html", {**context, "error": str(error)}, status=error.status)
    if done.run_id is not None:
        messages.success(request, sentence_of(done))
        return redirect("headrace:run", run_id=done.run_id)
    before = json.loads(original)
    context |= {"plan": done, "before": before, "after": before if value is repair.KEEP else value}
    return render(request, "headrace/repeat.html", context)


def _wanted(request: HttpRequest, detail: RunDetail, original: str) -> Wanted:
    given = request.POST if request.method == "POST" else request.GET
    keys = [step.step_run.key for step in detail.steps]
    step = given.get("step", "")
    mode = given.get("mode", "fork" if step else "start")
    if mode not in MODES or (step and step not in keys):
        raise Http404("There is no such way to repeat it, or no such step.")
    text = str(given.get("input", original)).replace("\r\n", "\n") if request.method == "POST" else original
    version = given.get("version", "current" if mode == "start" else "same")
    first = next(
        (each.step_run.key for each in detail.steps if each.step_run.status == "failed"), keys[0] if keys else ""
    )
    force = given.get("force") == "yes"
    return Wanted(mode=mode, step=step or first, version=version, text=text, force=force)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"input: this is no JSON ({error}).") from None


def _repeat(
    request: HttpRequest, organization: Organization, run_id: UUID, wanted: Wanted, value: Any, *, dry_run: bool
) -> Repeat:
    if wanted.mode == "fork":
        return repair.fork_run(
            organization, run_id, [wanted.step], new_input=value, version=wanted.version, dry_run=dry_run
        )
    return repair.replay(
        organization, run_id, by=request.user.get_username(), mode=wanted.mode, new_input=value,
        version=wanted.version, force=wanted.force, dry_run=dry_run,
    )  # fmt: skip
