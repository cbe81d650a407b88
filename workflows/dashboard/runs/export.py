"""The run list as a file: CSV or JSON, row by row, bounded."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters
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
KINDS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to a spreadsheet."""


@page()
@require_GET
def export(request: HttpRequest, organization: Organization, kind: str) -> HttpResponseBase:
    """The runs that match, newest first, at most MOST of them; without their bodies."""
    if kind not in KINDS:
        raise Http404
    wanted = query.criteria(query.chosen(request.GET), now=timezone.now())
    first = find(organization, wanted, limit=MAX_PAGE)
    pages = _pages(organization, wanted, first.runs, first.next_cursor)
    body = _csv(pages) if kind == "csv" else _json(pages)
    headers = {"Content-Disposition": f'attachment; filename="runs-{timezone.now():%Y%m%d-%H%M%S}.{kind}"'}
    return StreamingHttpResponse(body, content_type=KINDS[kind], headers=headers)


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


def _csv(pages: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    yield ",".join(FIELDS) + "\r\n"
    for rows in pages:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([_cell(row[name]) for name in FIELDS] for row in rows)
        yield text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(value)
    text = "" if value is None else value.get("message", "") if isinstance(value, dict) else str(value)
    return f"'{text}" if text.startswith(FORMULA) and not isinstance(value, int) else text


def _json(pages: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for rows in pages:
        for row in rows:
            yield separator + json.dumps(row, default=_text)
            separator = ",\n"
    yield "\n]\n"


def _text(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
