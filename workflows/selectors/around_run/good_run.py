"""The last run of a flow that completed before another one: what a failed run is compared with, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from workflows.models import Attempt, Organization, Run
from workflows.selectors.runs import StepDetail

MOST_READ = 2_000
"""Runs of the flow that are looked at, newest first: a flow that always fails has no good run among millions."""


def last_good_run(organization: Organization, run: Run) -> UUID | None:
    """The latest completed run of the flow that was made before this one, among the last of them; None for none."""
    before = Run.objects.filter(org_id=organization.id, flow_id=run.flow_id, id__lt=run.id).order_by("-id")
    found = before.values_list("id", "status")[:MOST_READ]
    return next((id_ for id_, status in found if status == Run.Status.COMPLETED), None)


def last_errors(steps: Sequence[StepDetail]) -> dict[UUID, Any]:
    """By step, the last error of those that are not completed, in one look at their failed tries."""
    failed = [
        each.id
        for step in steps
        if step.step_run.status != "completed"
        for each in step.attempts
        if each.status == "failed"
    ]
    return dict(Attempt.objects.filter(id__in=failed).order_by("number").values_list("step_run_id", "error"))
