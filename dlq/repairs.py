"""What a repair means for dead letters: it closes those of its failure; those that it did not do are opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from dlq.models import DeadLetter, DeadLetterChange
from workflows.engine.repair.chain import Repair
from workflows.models import Run

_SETTLE = (Path(__file__).parent / "sql" / "settle_repairs.sql").read_text(encoding="utf-8")
SETTLED_AT_ONCE = 500
Status = DeadLetter.Status


def failures_to_repair(*, run: Run, root_id: UUID, force: bool, **_: Any) -> list[str]:
    """Receiver of `workflows.signals.repair_begins`: the steps of the letters that the repair closes. Locks them."""
    return [letter.step_key for letter in _covered(root_id, run.id, force=force)]


def close(*, repair: Repair, **_: Any) -> None:
    """Receiver of `workflows.signals.run_repaired`: the letters of the failure are closed by the repair."""
    letters = list(_covered(repair.root_id, repair.origin_id, force=repair.force))
    DeadLetter.objects.filter(id__in=[letter.id for letter in letters]).update(
        status=Status.REPROCESSED, reprocessed_at=timezone.now(), replay_run_id=repair.run_id, repairing=True,
        auto_replay_at=None, auto_replays=0,
    )  # fmt: skip
    what = "replayed" if repair.mode == "start" else "resumed"
    DeadLetterChange.objects.bulk_create(
        DeadLetterChange(
            letter=letter, what=what, by=repair.by, run_id=repair.run_id, patch=repair.changes,
            reason="Once more, by force." if repair.force else "",
        )
        for letter in letters
    )  # fmt: skip


def _covered(root_id: UUID, origin_id: UUID, *, force: bool) -> QuerySet[DeadLetter]:
    """The open letters of the failure; by force also those of the run that were repaired before. Locked."""
    chosen = Q(status=Status.FAILED)
    if force:
        chosen |= Q(status=Status.REPROCESSED, run_id=origin_id)
    return DeadLetter.objects.select_for_update().filter(chosen, first_run_id=root_id).order_by("place")


def settle() -> bool:
    """Open letters again whose repairs have ended without doing their steps. True where there is more to look at."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, {"limit": SETTLED_AT_ONCE})
        return bool(cursor.fetchone()[0] == SETTLED_AT_ONCE)
