"""Pausing and draining a flow, a queue or an organization, and letting it go on.

A pause is a limit of 0 on steps: what executes ends, nothing else starts. A drain is one on runs: those that have
started go on to their ends, no other starts. What arrives meanwhile runs afterwards (`queue`), or is marked and dropped
(`skip`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import transaction

from throttling import overrides
from throttling.errors import ThrottlingError
from throttling.models import ThrottleOverride
from workflows.errors import FlowNotFound, InvalidInput, WorkflowsError
from workflows.models import Flow, Organization
from workflows.services import limits
from workflows.steps.registry import QUEUES

Mode = Literal["pause", "drain"]
Arrivals = Literal["queue", "skip"]


class NotPaused(WorkflowsError):
    """It is neither paused nor draining."""

    status, code = 409, "not_paused"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is paused: a flow, an organization (without a flow), or a queue of all organizations."""

    organization: Organization | None = None
    flow: Flow | None = None
    queue: str = ""

    @property
    def org_id(self) -> UUID | None:
        return self.organization.id if self.organization else None

    def row(self, scope: str) -> ThrottleOverride:
        return ThrottleOverride(
            scope=scope, flow_id=self.flow.id if self.flow else None, org_id=self.org_id, name=self.queue
        )

    def __str__(self) -> str:
        return f"flow {self.flow.slug}" if self.flow else f"queue {self.queue}" if self.queue else "organization"


def flow(organization: Organization, slug: str) -> Subject:
    """Raises FlowNotFound."""
    found = Flow.objects.filter(organization=organization, slug=slug).first()
    if found is None:
        raise FlowNotFound(f"There is no flow {slug!r}.")
    return Subject(organization=organization, flow=found)


def queue(name: str) -> Subject:
    """`io`, `compute`, or the whole name. Raises InvalidInput."""
    whole = name if name in QUEUES else f"headrace.{name}"
    if whole not in QUEUES:
        raise InvalidInput(f"queue {name!r} is unknown; there are {', '.join(QUEUES)}.")
    return Subject(queue=whole)


def stop(
    subject: Subject, *, mode: Mode = "pause", arrivals: Arrivals = "queue", reason: str = "", by: str
) -> dict[str, Any]:
    """Pause or drain; effective on all workers within a second. One that is stopped already gets the new mode.

    Raises InvalidInput where the subject can't be stopped so.
    """
    if arrivals == "skip" and subject.queue:
        raise InvalidInput("A queue has no arrivals of its own: pause its flows or the organization.")
    limits.check_pace(subject.org_id)
    row = subject.row(mode)
    row.note = reason[:500]
    try:
        with transaction.atomic():
            structural = False
            for other in _rows(subject):
                if other.scope != mode:
                    structural = overrides.delete(other, by=by) or structural
            structural = overrides.put(row, by=by) or structural
            _skip_arrivals(subject, arrivals == "skip")
    except ThrottlingError as error:
        raise InvalidInput(str(error)) from None
    limits.announce(structural)
    return as_json(row)


def resume(subject: Subject, *, by: str) -> None:
    """Let it go on: what waits starts in its old order. Raises NotPaused."""
    limits.check_pace(subject.org_id)
    with transaction.atomic():
        rows = _rows(subject)
        if not rows:
            raise NotPaused(f"The {subject} is neither paused nor draining.")
        for row in rows:
            overrides.delete(row, by=by)
        _skip_arrivals(subject, False)
    limits.announce(True)


def _rows(subject: Subject) -> list[ThrottleOverride]:
    wanted = subject.row("pause")
    return list(
        ThrottleOverride.objects.select_for_update().filter(
            scope__in=["pause", "drain"], flow_id=wanted.flow_id, org_id=wanted.org_id, name=wanted.name
        )
    )


def _skip_arrivals(subject: Subject, skips: bool) -> None:
    if subject.flow is not None:
        Flow.objects.filter(id=subject.flow.id).update(skips_arrivals=skips)
    elif subject.organization is not None:
        Organization.objects.filter(id=subject.organization.id).update(skips_arrivals=skips)


def stopped(organization: Organization) -> list[dict[str, Any]]:
    """What is paused or draining of an organization, and the queues of all."""
    rows = ThrottleOverride.objects.filter(scope__in=["pause", "drain"])
    rows = rows.filter(org_id=organization.id) | rows.filter(org_id=None)
    return [as_json(row) for row in rows.order_by("changed_at")]


def as_json(row: ThrottleOverride) -> dict[str, Any]:
    found = Flow.objects.filter(id=row.flow_id).first() if row.flow_id else None
    organization = Organization.objects.filter(id=row.org_id).first() if row.org_id and not row.flow_id else None
    skips = bool((found and found.skips_arrivals) or (organization and organization.skips_arrivals))
    at: dt.datetime = row.changed_at
    return {
        "what": "flow" if row.flow_id else "queue" if row.name else "organization",
        "flow": found.slug if found else None,
        "queue": row.name or None,
        "mode": row.scope,
        "arrivals": "skip" if skips else "queue",
        "reason": row.note,
        "by": row.changed_by,
        "since": at,
    }
