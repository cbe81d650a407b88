"""Reading a run or a step for a page: what is not there is not found; bodies are shown in part, downloaded whole."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse

from workflows import presenters, selectors
from workflows.dashboard.run.page import input_of, shown_body
from workflows.errors import RunNotFound
from workflows.models import Organization, Run
from workflows.presenters import redaction
from workflows.selectors.runs import RunDetail, StepDetail
from workflows.selectors.upkeep.absence import absence

BODIES = ("input", "output")


def detail_of(organization: Organization, run_id: UUID, *, bodies: bool = False) -> RunDetail:
    """The run with its steps. Raises Http404."""
    try:
        return selectors.run_detail(organization, run_id, bodies=bodies)
    except RunNotFound:
        raise Http404(absence(organization, run_id, "run")) from None


def step_of(organization: Organization, run_id: UUID, key: str) -> StepDetail:
    """One step with its tries. Raises Http404."""
    try:
        return selectors.step_detail(organization, run_id, key)
    except RunNotFound:
        if Run.objects.filter(org_id=organization.id, id=run_id).exists():
            raise Http404("The run has no such step.") from None
        raise Http404(absence(organization, run_id, "run")) from None


def run_value(detail: RunDetail, what: str) -> Any:
    """The input or output of a run. Raises Http404 for another word."""
    if what not in BODIES:
        raise Http404
    value = detail.run.input if what == "input" else presenters.run_output(detail)
    return redaction.payload(detail.run.org_id, value, what)


def step_value(step: StepDetail, what: str) -> Any:
    """The input or output of a step, without the values that the organization's rules hide."""
    value = input_of(step) if what == "input" else step.step_run.output
    return redaction.payload(step.step_run.org_id, value, what)


def body_of(value: Any, address: str) -> dict[str, Any]:
    """A value as a page shows it: {text, is_cut, download}."""
    text, is_cut = shown_body(value)
    return {"text": text, "is_cut": is_cut, "download": address}


def download(value: Any, name: str) -> HttpResponse:
    """A value as a file."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="application/json", headers=headers)
