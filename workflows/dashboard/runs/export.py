"""The run list as a file: CSV or JSON, row by row, bounded."""

from __future__ import annotations

from collections.abc import Sequence

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
from workflows.selectors.searching.walk import find

FIELDS = (
    "id", "flow", "version", "status", "trigger", "event", "userId", "tags", "priority", "createdAt", "startedAt",
    "endedAt", "duration", "error",
)  # fmt: skip


@page()
@require_GET
def export(request: HttpRequest, organization: Organization, kind: str) -> HttpResponseBase:
    """The runs that match, newest first, at most files.MOST of them; without their bodies."""
    files.check_kind(kind)
    wanted = query.criteria(query.chosen(request.GET), now=timezone.now())

    def read(cursor: str) -> tuple[list[Run], str]:
        found = find(organization, wanted, limit=MAX_PAGE, cursor=cursor)
        return found.runs, found.next_cursor

    pages = (_rows(organization, runs) for runs in files.bounded(read(""), read))
    return files.download("runs", kind, FIELDS, pages)


def _rows(organization: Organization, runs: Sequence[Run]) -> files.Rows:
    rows = redaction.answer(organization.id, presenters.run_summaries(runs))
    return [{name: row[name] for name in FIELDS} for row in rows]
