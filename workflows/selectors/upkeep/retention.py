"""What is kept for how long, how far deleting is, and what to tell people about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from django.utils import timezone

from workflows.engine.retention import catalogue, pacing, progress
from workflows.engine.retention.rules import Kept, Rules
from workflows.engine.retention.subjects import RUN_STATUSES, SUBJECTS
from workflows.models import Event, Organization, PrunedRun, RetentionState, Run


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What an organization keeps, and how far deleting is. `oldest`: by subject, when the oldest row of it began."""

    rules: list[Kept]
    state: RetentionState
    is_on: bool
    rows_per_s: int
    oldest: Mapping[str, dt.datetime | None]
    being_deleted: int
    """Runs of the organization whose steps are still to be deleted."""

    @property
    def announcement(self) -> str:
        return announcement_of(self.state)

    @property
    def announcement_without_numbers(self) -> str:
        """For those whom the other organizations' rows are no business of."""
        return announcement_of(self.state, with_numbers=False)


def retention(organization: Organization) -> Retention:
    """The rules as they hold for an organization, and the state of the installation."""
    rules = Rules()
    ended = Run.objects.filter(org_id=organization.id).exclude(ended_at=None).order_by("ended_at")
    events = Event.objects.filter(org_id=organization.id).order_by("id").values_list("received_at", flat=True)
    return Retention(
        rules=[rules.kept(name, organization.id) for name in SUBJECTS],
        state=progress.state(),
        is_on=pacing.is_on(),
        rows_per_s=pacing.rows_per_s(),
        oldest={
            "events": events.first(),
            **{
                status: ended.filter(status=status).values_list("ended_at", flat=True).first()
                for status in RUN_STATUSES
            },
        },
        being_deleted=PrunedRun.objects.filter(org_id=organization.id).count(),
    )  # fmt: skip


def announcement() -> str:
    """What pages and `doctor` tell of the first deletion while it lies ahead; else empty."""
    return announcement_of(progress.state())


def announcement_of(state: RetentionState, *, with_numbers: bool = True) -> str:
    """The same, of a state that is known."""
    if state.dry_until is None or state.dry_until <= timezone.now() or not pacing.is_on():
        return ""
    counted = ", ".join(f"{rows:,} of {subject}" for subject, rows in sorted(state.would_delete.items()) if rows)
    counts = f"as of now {counted}" if counted else "as of now nothing" if state.announced_at else "not counted yet"
    shown = f": {counts}" if with_numbers else ""
    return (
        f"From {state.dry_until:%Y-%m-%d %H:%M} UTC on, what has expired is deleted{shown}. Until then nothing is. "
        "Change how long things are kept by rules of retention (docs/howto/retention.md)."
    )


def bounds() -> dict[str, str]:
    """By table (or other place that grows): what bounds it."""
    return catalogue.sentences()
