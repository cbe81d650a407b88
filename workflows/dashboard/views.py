"""The run list, and what is done to a run. Reads come from `selectors`, actions go to `services`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET

from workflows import presenters, selectors
from workflows.dashboard.access import page
from workflows.edge.values import OLD_WORDS
from workflows.errors import InvalidInput
from workflows.models import Organization, Run
from workflows.selectors import run_lists

FILTERS = ("status", "flow", "trigger", "event", "since", "until")


def _moment(text: str) -> dt.datetime | None:
    """A time of a form, in UTC; nothing for none and for one that is no time."""
    try:
        found = parse_datetime(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=dt.UTC) if found and found.tzinfo is None else found


@page()
@require_GET
def runs(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The run list; the table alone for htmx."""
    given = {OLD_WORDS.get(name, name): str(text) for name, text in request.GET.items()}
    chosen = {name: given.get(name, "") for name in FILTERS}
    sort = request.GET.get("sort", "created")
    context: dict[str, Any] = {
        "chosen": chosen,
        "sort": sort,
        "statuses": [*Run.Status.values, "waiting"],
        "sorts": run_lists.SORTS,
        "flows": [summary.flow for summary in selectors.flows(organization)],
        "counts": selectors.queue_counts(organization),
        "error": "",
    }
    where = run_lists.RunFilter(
        status=chosen["status"],
        workflow=chosen["flow"],
        trigger=chosen["trigger"],
        event_name=chosen["event"],
        since=_moment(chosen["since"]),
        until=_moment(chosen["until"]),
    )
    try:
        page = run_lists.runs_page(organization, where, sort=sort, cursor=request.GET.get("cursor", ""))
        context |= {"runs": presenters.run_summaries(page.runs), "next_cursor": page.next_cursor}
    except InvalidInput as error:
        context |= {"runs": [], "next_cursor": "", "error": str(error)}
    context["live"] = not request.GET.get("cursor")
    template = "headrace/_runs_table.html" if request.headers.get("HX-Request") else "headrace/runs.html"
    return render(request, template, context)
