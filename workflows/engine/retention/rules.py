"""How long each subject is kept, by the rules as they are now: an organization's own, that for all, the environment."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from workflows.engine.retention.subjects import SUBJECTS, Subject, configured_days
from workflows.models import RetentionRule

Source = Literal["organization", "installation", "environment", "default"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How long something is kept, and who says so. `days`: None for ever."""

    subject: Subject
    days: float | None
    source: Source

    def cutoff(self, now: dt.datetime) -> dt.datetime | None:
        """What is older may be deleted; None: nothing."""
        return None if self.days is None else now - dt.timedelta(days=self.days)


REREAD_AFTER_S = 30.0


class Rules:
    """The rules, read again every half a minute: a pass may take hours, and what is to be kept for longer since it
    began is kept."""

    def __init__(self) -> None:
        self._read()

    def _read(self) -> None:
        self._rows = {(row.organization_id, row.subject): row.days for row in RetentionRule.objects.all()}
        self._read_at = time.monotonic()

    def kept(self, name: str, org_id: UUID | None = None) -> Kept:
        """How long the subject of this name is kept for an organization, or where none has a rule of its own."""
        if time.monotonic() - self._read_at > REREAD_AFTER_S:
            self._read()
        subject = SUBJECTS[name]
        places: tuple[tuple[UUID | None, Source], ...] = ((org_id, "organization"), (None, "installation"))
        for place, source in places if org_id and subject.by_organization else places[1:]:
            if (place, name) in self._rows:
                return Kept(subject=subject, days=self._rows[place, name], source=source)
        days, is_set = configured_days(subject)
        return Kept(subject=subject, days=days, source="environment" if is_set else "default")
