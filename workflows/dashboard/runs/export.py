"""The run list as a file: CSV or JSON, row by row, bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters
from workflows.dashboard import files
from workflows.dashboard.access import page
from workflows.dashboard.runs import query
from workflows.edge.values import MAX_PAGE
from workflows.models import Organization, Run
from workflows.presenters import redaction
from workflows.selectors.searching.criteria import Criteria
from workflows.selectors.searching.walk import find

MOST = 10_000
MAX_S = 10.0
"""A search that finds little reads on for so long; the file ends there."""
FIELDS = (
    "id", "flow", "version", "status", "trigger", "event", "userId", "tags", "priority", "createdAt", "startedAt",
    "endedAt", "duration", "error",
)  # fmt: skip


@page()
@require_GET
def export(request: HttpRequest, organization: Organization, kind: str) -> HttpResponseBase:
    """The runs that match, newest first, at most MOST of them; without their bodies."""
    files.check_kind(kind)
    wanted = query.criteria(query.chosen(request.GET), now=timezone.now())
    first = find(organization, wanted, limit=MAX_PAGE)
    pages = _pages(organization, wanted, first.runs, first.next_cursor)
    return files.download("runs", kind, FIELDS, pages)


def _pages(
    organization: Organization, wanted: Criteria, runs: list[Run], cursor: str
) -> Iterator[list[dict[str, Any]]]:
    """Page after page; each is read by itself, and nothing is held between them."""
    count, until_s = 0, time.monotonic() + MAX_S
    while True:
        rows = redaction.answer(organization.id, presenters.run_summaries(runs[: MOST - count]))
        count += len(rows)
        yield [{name: row[name] for name in FIELDS} for row in rows]
        if not cursor or count >= MOST or time.monotonic() > until_s:
            return
        found = find(organization, wanted, limit=MAX_PAGE, cursor=cursor)
        runs, cursor = found.runs, found.next_cursor
