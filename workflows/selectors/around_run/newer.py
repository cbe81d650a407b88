"""Whether the flow of a run was changed since."""

from __future__ import annotations

from workflows.models import FlowVersion, Run


def newer_version(run: Run) -> int | None:
    """The number of the flow's current version, where that is a later one than the run's."""
    if run.flow.current_id in {None, run.version_id}:
        return None
    later = FlowVersion.objects.filter(id=run.flow.current_id, number__gt=run.version.number)
    return later.values_list("number", flat=True).first()
