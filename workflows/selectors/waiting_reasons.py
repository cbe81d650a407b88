"""Why a step or a run waits, in sentences; of what has ended, what it waited while it lived."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import DurationField, ExpressionWrapper, F

from workflows.errors import StepRunNotFound
from workflows.models import Attempt, Organization, Run, StepRun
from workflows.models.run import LIVE_STEP
from workflows.selectors import limits
from workflows.selectors.limits import Reason

MAX_STEPS = 25
WAITED = ExpressionWrapper(F("started_at") - F("ready_at"), output_field=DurationField())


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A step, or (without a key) a run, and why it waits."""

    key: str = ""
    step_run_id: UUID | None = None
    reason: Reason


def explain(organization: Organization, reference: UUID) -> list[Explained]:
    """Why the step of this id waits, or the open steps of this run do. Raises StepRunNotFound."""
    found = StepRun.objects.filter(org_id=organization.id)
    rows = list(found.filter(id=reference)) or list(
        found.filter(run_id=reference, status__in=LIVE_STEP).order_by("position")[:MAX_STEPS]
    )
    if rows:
        return [Explained(key=row.key, step_run_id=row.id, reason=_of_step(row)) for row in rows]
    run = Run.objects.filter(org_id=organization.id, id=reference).first()
    if run is None:
        raise StepRunNotFound(f"There is no step run and no run {reference} in this organization.")
    return [Explained(reason=_of_run(run))]


def _of_step(row: StepRun) -> Reason:
    if row.status in LIVE_STEP:
        return limits.reason_of(row)
    tries = Attempt.objects.filter(run_id=row.run_id, step_run_id=row.id)
    latest = tries.exclude(started_at=None).exclude(ready_at=None).order_by("-id").first()
    if latest is None or latest.started_at is None or latest.ready_at is None:
        return Reason(sentence=f"Does not wait: it is {row.status}, and never had to be started.")
    waited_s = (latest.started_at - latest.ready_at).total_seconds()
    return Reason(
        sentence=f"Does not wait: it is {row.status}. Before its last start it waited {_seconds(waited_s)}.",
        waited_s=waited_s,
    )


def _of_run(run: Run) -> Reason:
    if run.is_live:
        return Reason(sentence=f"The run is {run.status}, and none of its steps is open: it is about to end.")
    tries = Attempt.objects.filter(run_id=run.id).exclude(started_at=None).exclude(ready_at=None)
    found = tries.annotate(waited=WAITED).values_list("waited", "step_run__key")
    waits = [(waited.total_seconds(), key) for waited, key in found]
    ended = f"The run is {run.status} since {run.ended_at:%Y-%m-%d %H:%M:%S} UTC, and holds and waits for nothing."
    if not waits:
        return Reason(sentence=f"{ended} None of its steps was started.")
    total_s, (longest_s, key) = sum(wait for wait, _ in waits), max(waits)
    longest = f", {key} the longest ({_seconds(longest_s)})" if len(waits) > 1 else ""
    return Reason(
        sentence=f"{ended} Its steps waited {_seconds(total_s)} in all before their starts{longest}.",
        waited_s=total_s,
    )


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):,.1f} s"
