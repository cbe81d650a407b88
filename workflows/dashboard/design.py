"""The page that shows every component with made-up data, for those who build pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows.dashboard.access import page
from workflows.dashboard.icons import ICONS
from workflows.models import Organization, Run, StepRun

EXAMPLE = {
    "orderId": "A-1001",
    "total": 249.5,
    "paid": True,
    "note": None,
    "card": "***",
    "items": [{"sku": "AB-12", "quantity": 2, "price": 99.75}, {"sku": "CD-34", "quantity": 1, "price": 50}],
    "numbers": list(range(140)),
}
BARS = (
    "queued", "throttled", "running", "failed", "lost", "retry-wait", "sleep", "event", "approval", "callback", "items",
    "run",
)  # fmt: skip


@page()
@require_GET
def design(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The components. For staff: everybody else has no use of it."""
    if not getattr(request.user, "is_staff", False):
        raise Http404
    now = timezone.now()
    context: dict[str, Any] = {
        "statuses": [*dict.fromkeys([*Run.Status.values, *StepRun.Status.values])],
        "bars": BARS,
        "icons": sorted(ICONS),
        "now": now,
        "earlier": now - dt.timedelta(minutes=7, seconds=12),
        "example": EXAMPLE,
        "changed": {**EXAMPLE, "total": 199.5, "paid": False, "numbers": []},
        "points": _points(now),
        "sort": "created",
    }
    return render(request, "headrace/design.html", context)


def _points(now: dt.datetime) -> dict[str, Any]:
    start = int(now.timestamp()) // 60 * 60 - 59 * 60
    return {
        "x": [start + 60 * minute for minute in range(60)],
        "series": [
            {"label": "completed", "color": "bar-running", "values": [20 + (minute * 7) % 13 for minute in range(60)]},
            {"label": "failed", "color": "bar-failed", "values": [(minute * 5) % 4 for minute in range(60)]},
        ],
    }
