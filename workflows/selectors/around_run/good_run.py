"""The last run of a flow that completed before another one: what a failed run is compared with."""

from __future__ import annotations

from uuid import UUID

from workflows.models import Organization, Run

MOST_READ = 2_000
"""Runs of the flow that are looked at, newest first: a flow that always fails has no good run among millions."""


def last_good_run(organization: Organization, run: Run) -> UUID | None:
    """The latest completed run of the flow that was made before this one, among the last of them; None for none."""
    before = Run.objects.filter(org_id=organization.id, flow_id=run.flow_id, id__lt=run.id).order_by("-id")
    found = before.values_list("id", "status")[:MOST_READ]
    return next((id_ for id_, status in found if status == Run.Status.COMPLETED), None)
