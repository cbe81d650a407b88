"""What to tell of something that is not there: it may have been, and have been deleted since."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from django.utils import timezone

from workflows.engine.retention.rules import Rules
from workflows.engine.retention.subjects import RUN_STATUSES
from workflows.models import Organization

SUBJECTS = {"run": RUN_STATUSES, "event": ("events",)}


def absence(organization: Organization, id_: UUID, what: str) -> str:
    """Why there is no `run` or `event` of this id, told by the id alone, which says when one was made: so another
    organization's is told as one that nobody has made."""
    text = f"There is no such {what} in this organization."
    made_at, now = _made_at(id_), timezone.now()
    rules = Rules()
    days = [kept.days for name in SUBJECTS[what] if (kept := rules.kept(name, organization.id)).days is not None]
    if made_at is None or not days or not made_at + dt.timedelta(days=min(days)) < now:
        return text
    when = "from their end on, unless something still needs them" if what == "run" else "unless a run has them"
    return (
        f"{text} By its id it was made on {made_at:%Y-%m-%d}, and {what}s are kept for {min(days):g} days here, "
        f"{when}: if it was one of this organization, it is deleted by now."
    )


def _made_at(id_: UUID) -> dt.datetime | None:
    """When an id of ours was made; None for another kind of id."""
    if id_.version != 7:
        return None
    at_s = (id_.int >> 80) / 1_000
    return dt.datetime.fromtimestamp(at_s, dt.UTC) if at_s < timezone.now().timestamp() else None
