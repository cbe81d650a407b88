"""A run beside its last good one: what differs in versions, inputs, steps and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from workflows import presenters
from workflows.dashboard.access import page
from workflows.dashboard.run.page import MAX_SHOWN
from workflows.dashboard.run.read import detail_of, run_value
from workflows.edge.values import identifier
from workflows.models import Organization
from workflows.presenters.step_metrics import executing_ms
from workflows.selectors.around_run.good_run import MOST_READ, last_errors, last_good_run
from workflows.selectors.runs import RunDetail, StepDetail


@page()
@require_GET
def compare(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """The run beside another one (`?with=`), or the last run of its flow before it that completed."""
    detail = detail_of(organization, run_id)
    given = request.GET.get("with", "")
    other_id = identifier(given, "with") if given else last_good_run(organization, detail.run)
    if other_id is None:
        text = (
            f"None of the {MOST_READ:,} runs of {detail.run.flow.slug} before this one completed: nothing to compare."
        )
        messages.warning(request, text)
        return redirect("headrace:run", run_id=run_id)
    other = detail_of(organization, other_id)
    if other.run.flow_id != detail.run.flow_id:
        raise Http404("That run is one of another flow.")
    context = {
        "run": detail.run,
        "other": other.run,
        "sides": [presenters.run_summary(other.run, other.status), presenters.run_summary(detail.run, detail.status)],
        "steps": _steps(detail, other),
        "inputs": (_bounded(run_value(other, "input")), _bounded(run_value(detail, "input"))),
        "outputs": (_bounded(run_value(other, "output")), _bounded(run_value(detail, "output"))),
    }
    return render(request, "headrace/compare.html", context)


def _steps(detail: RunDetail, other: RunDetail) -> list[dict[str, Any]]:
    """The steps of both, in the order of this run: status and execution time of each."""
    errors = last_errors(detail.steps)
    mine, good = ({step.step_run.key: _step(step, errors) for step in each.steps} for each in (detail, other))
    rows = []
    for key in [*mine, *(key for key in good if key not in mine)]:
        here, there = mine.get(key), good.get(key)
        differs = (here or {}).get("status") != (there or {}).get("status")
        rows.append({"key": key, "here": here, "there": there, "differs": differs})
    return rows


def _step(step: StepDetail, errors: Mapping[UUID, Any]) -> dict[str, Any]:
    row = step.step_run
    return {"status": row.status, "duration": executing_ms(step.attempts), "error": errors.get(row.id)}


def _bounded(value: Any) -> Any:
    """A value that is small enough to be compared line by line; of a larger one the beginning of its text."""
    text = str(value)
    return value if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"
