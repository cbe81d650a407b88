"""The dead letters of a flow that is archived or deleted. Their groups stay: other flows may fail by the same cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dlq.models import DeadLetter
from workflows.models import Flow


def open_letters(*, flow: Flow, **_: Any) -> list[tuple[str, list[str]]]:
    """Receiver of `workflows.signals.flow_closing`: the letters that nobody has handled."""
    letters = DeadLetter.objects.filter(
        org_id=flow.organization_id, flow_id=flow.id, status=DeadLetter.Status.FAILED
    ).order_by("id")
    return [("open dead letters (replay or ignore them)", [str(id_) for id_ in letters.values_list("id", flat=True)])]


def delete_of_runs(*, run_ids: Sequence[UUID], **_: Any) -> None:
    """Receiver of `workflows.signals.runs_deleted`."""
    DeadLetter.objects.filter(run_id__in=run_ids).delete()


def delete_of_flow(*, flow: Flow, **_: Any) -> None:
    """Receiver of `workflows.signals.flow_deleted`: those whose runs are gone already."""
    DeadLetter.objects.filter(org_id=flow.organization_id, flow_id=flow.id).delete()
