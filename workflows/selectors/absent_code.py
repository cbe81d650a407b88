"""Flows in Python whose published code no live worker has: their runs wait."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils import timezone

from workflows.models import Flow, Run, Worker
from workflows.models.run import LIVE_RUN
from workflows.models.worker import SILENT_AFTER_S


@dataclass(frozen=True, kw_only=True)
class AbsentCode:
    """A version that runs are made of, and that nobody can visit."""

    organization: str
    flow: str
    version: int
    live_runs: int

    def __str__(self) -> str:
        waiting = f", and {self.live_runs:,} runs wait for one" if self.live_runs else ""
        return (
            f"flow {self.flow} ({self.organization}): no live worker has the code of version {self.version}{waiting}. "
            "Start workers with this code, or publish the code that they have: manage.py flows publish"
        )


def absent_code() -> list[AbsentCode]:
    """The current versions of flows in Python whose code no worker has that was seen lately; none without workers."""
    seen = Worker.objects.filter(seen_at__gt=timezone.now() - dt.timedelta(seconds=SILENT_AFTER_S))
    codes = list(seen.values_list("code", flat=True))
    if not codes:
        return []
    known = {(slug, digest) for code in codes for slug, digest in code.items()}
    rows = Flow.objects.filter(kind=Flow.Kind.CODE, archived_at=None, current__isnull=False)
    found = []
    for flow in rows.select_related("organization", "current").order_by("organization__slug", "slug"):
        assert flow.current is not None
        digest = flow.current.definition["steps"][0]["config"].get("digest")  # none: no worker has that either
        if (flow.slug, digest) not in known:
            live = Run.objects.filter(version_id=flow.current_id, status__in=LIVE_RUN).count()
            found.append(
                AbsentCode(
                    organization=flow.organization.slug, flow=flow.slug, version=flow.current.number, live_runs=live
                )
            )
    return found
