"""What retention means for dead letters: which keep their runs, and what of theirs is deleted by its age."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from dlq.models import Alert, AlertNotification, DeadLetter
from workflows.engine.retention.ages import AgedTable
from workflows.engine.retention.rules import Rules
from workflows.models.run import first_id

Status = DeadLetter.Status
OPEN = "a dead letter of it is open"
REPAIRING = "a repair of its dead letter is open"
HANDLED = "a fork of what its code handled may come"
LOCKED = "somebody works on a dead letter of it"


def keep_runs(*, run_ids: Sequence[UUID], **_: Any) -> dict[UUID, str]:
    """Receiver of `workflows.signals.runs_expire`: the runs that letters keep, and why. Locks the letters of the others
    without waiting: who changes one has locked it, and keeps its run."""
    ids = list(run_ids)
    of_runs = Q(run_id__in=ids) | Q(first_run_id__in=ids) | Q(replay_run_id__in=ids)
    letters = DeadLetter.objects.filter(of_runs).only("id", "run_id", "first_run_id", "replay_run_id")
    known = {letter.id: letter for letter in letters}
    if not known:
        return {}
    locked = {
        letter.id: letter
        for letter in DeadLetter.objects.select_for_update(skip_locked=True)
        .filter(id__in=list(known))
        .only("id", "run_id", "first_run_id", "replay_run_id", "status", "repairing", "failed_at")
        .order_by("id")
    }
    handled_before = Rules().kept("letters").cutoff(timezone.now())
    kept: dict[UUID, str] = {}
    for id_, letter in known.items():
        reason = _reason(locked[id_], handled_before) if id_ in locked else LOCKED
        if reason:
            kept |= dict.fromkeys((letter.run_id, letter.first_run_id, letter.replay_run_id or letter.run_id), reason)
    return {run_id: reason for run_id, reason in kept.items() if run_id in set(ids)}


def _reason(letter: DeadLetter, handled_before: dt.datetime | None) -> str:
    if letter.status == Status.FAILED:
        return OPEN
    if letter.repairing:
        return REPAIRING
    is_recent = handled_before is None or letter.failed_at >= handled_before
    return HANDLED if letter.status == Status.HANDLED and is_recent else ""


def _alerts(before: dt.datetime) -> Any:
    """Those that hold still, and those of which a message is to be sent, stay."""
    old = Alert.objects.filter(Q(recovered_at__lt=before) | Q(rule=None, seen_at__lt=before))
    pending = AlertNotification.objects.filter(status=AlertNotification.Status.PENDING).values("alert_id")
    return old.filter(id__lt=first_id(before.timestamp())).exclude(id__in=pending)


TABLES = (
    AgedTable(
        name="headrace_dlq_alert", subject="alerts", old=_alerts, with_rows=((AlertNotification, "alert"),)
    ),
)  # fmt: skip
