"""What is kept for how long, how far deleting is, and what to tell people about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone

from workflows.engine.retention import catalogue, pacing, progress
from workflows.engine.retention.rules import Kept, Rules
from workflows.engine.retention.subjects import RUN_STATUSES, SUBJECTS, checked_days, subject_of
from workflows.models import Event, Organization, PrunedRun, RetentionRule, RetentionState, Run
from workflows.models.run import first_id

MOST_COUNTED = 10_000
"""More of what a rule would let go is not counted."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What an organization keeps, and how far deleting is. `oldest`: by subject, when the oldest row of it began.

    `own`, `of_all`: by subject, the rules that are stored for the organization, and for all.
    """

    rules: list[Kept]
    own: Mapping[str, RetentionRule]
    of_all: Mapping[str, RetentionRule]
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
    stored = list(RetentionRule.objects.filter(Q(organization=organization) | Q(organization=None)))
    return Retention(
        rules=[rules.kept(name, organization.id) for name in SUBJECTS],
        own={row.subject: row for row in stored if row.organization_id is not None},
        of_all={row.subject: row for row in stored if row.organization_id is None},
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


# --- a rule that somebody thinks of -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a rule would mean: `older` rows are older than it keeps (counted up to MOST_COUNTED), the oldest from
    `oldest`; None where that is not counted. `now`: how long they are kept today."""

    now: Kept
    days: float | None
    older: int | None
    oldest: dt.datetime | None

    @property
    def is_shorter(self) -> bool:
        return self.days is not None and (self.now.days is None or self.days < self.now.days)


def trial(organization: Organization | None, subject: str, days: object) -> Trial:
    """What it would mean to keep a subject for so many days. Nothing is changed.

    Counted are runs and events of an organization; what something open refers to is kept, however old it is.
    Raises InvalidInput.
    """
    now = Rules().kept(subject_of(subject).name, organization.id if organization is not None else None)
    wanted = checked_days(days)
    if organization is None or wanted is None:
        return Trial(now=now, days=wanted, older=None, oldest=None)
    before = timezone.now() - dt.timedelta(days=wanted)
    if subject == "events":
        events = Event.objects.filter(org_id=organization.id, id__lt=first_id(max(0.0, before.timestamp())))
        times: list[Any] = list(events.order_by("id").values_list("received_at", flat=True)[: MOST_COUNTED + 1])
    elif subject in RUN_STATUSES:
        runs = Run.objects.filter(org_id=organization.id, status=subject, ended_at__lt=before)
        times = list(runs.order_by("ended_at").values_list("ended_at", flat=True)[: MOST_COUNTED + 1])
    else:
        return Trial(now=now, days=wanted, older=None, oldest=None)
    return Trial(now=now, days=wanted, older=len(times), oldest=times[0] if times else None)
