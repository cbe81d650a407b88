"""The answers to requests for runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

QUEUED = "Workflow queued for execution"


def started_out(run_id: UUID, *, existing: bool, message: str, pruned: bool = False) -> dict[str, Any]:
    """The answer to a request for a run, in the legacy format."""
    id_ = str(run_id)
    answer = {"success": True, "queued": True, "jobId": id_, "runId": id_, "existing": existing, "message": message}
    return {**answer, "pruned": pruned}


def many_started_out(
    run_ids: Sequence[UUID], *, existing: Iterable[UUID] = (), pruned: Iterable[UUID] = (), refused: Any = ()
) -> dict[str, Any]:
    """The answer to a request for many runs: a run for each, in order, and which of them were made before."""
    return {
        "success": True,
        "queued": True,
        "runIds": [str(id_) for id_ in run_ids],
        "existingIds": [str(id_) for id_ in existing],
        "prunedIds": [str(id_) for id_ in pruned],
        "refused": list(refused),
        "message": f"{len(run_ids)} workflows queued for execution",
    }
