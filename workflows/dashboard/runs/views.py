"""The run list: the page, its table alone, and the counts over time."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters, selectors
from workflows.dashboard.access import page, user_id
from workflows.dashboard.runs import columns, query
from workflows.errors import InvalidInput, RunNotFound
from workflows.models import Organization, Run
from workflows.selectors import run_lists
from workflows.selectors.pages import flows as flow_selectors
from workflows.selectors.searching.histogram import histogram
from workflows.selectors.searching.walk import SearchPage, find
from workflows.services.own import views as saved_views

TRIGGERS = ("manual", "api", "cli", "event", "cron", "webhook", "invoke")
NOTHING = SearchPage(runs=[], next_cursor="")


@page()
@require_GET
def runs(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The run list; the table alone for htmx. A text in the search box becomes filters, an id opens its run."""
    written = request.GET.get("q", "").strip()
    if written:
        answer = _written(request, organization, written)
        if answer is not None:
            return answer
    context = _table(request, organization)
    if request.headers.get("HX-Request"):
        return render(request, "headrace/runs/_table.html", context)
    context |= {
        "statuses": [*Run.Status.values, run_lists.WAITING],
        "triggers": TRIGGERS,
        "sorts": run_lists.SORTS,
        "flows": flow_selectors.flow_names(organization),
        "columns_all": columns.COLUMNS,
        "views": saved_views.of(organization, user_id(request)),
    }
    return render(request, "headrace/runs.html", context)


def _written(request: HttpRequest, organization: Organization, text: str) -> HttpResponse | None:
    """To the run (or the event's run) of an id; else to the list with what the text says."""
    try:
        found = selectors.find_run(organization, UUID(text))
        return _to(request, "headrace:run", run_id=found)
    except (ValueError, RunNotFound):
        pass
    try:
        said = query.typed(text)
    except InvalidInput:
        said = {"text": text[: query.MAX_BOX]}
    filters = query.chosen(request.GET) | said
    kept = {name: request.GET[name] for name in ("sort",) if request.GET.get(name)}
    address = f"{request.path}?{urlencode(filters | kept)}"
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": address})
    return redirect(address)


def _to(request: HttpRequest, name: str, **kwargs: Any) -> HttpResponse:
    address = reverse(name, kwargs=kwargs)
    return HttpResponse(headers={"HX-Redirect": address}) if request.headers.get("HX-Request") else redirect(address)


def _table(request: HttpRequest, organization: Organization) -> dict[str, Any]:
    """What the table shows, or why it can't be shown."""
    filters, sort, cursor = query.chosen(request.GET), request.GET.get("sort", ""), request.GET.get("cursor", "")
    order = sort or "created"
    context: dict[str, Any] = {
        "chosen": filters,
        "sort": order,
        "columns": columns.chosen(request),
        "chips": query.chips(filters, {"sort": sort} if sort else {}),
        "query": urlencode(filters | ({"sort": sort} if sort else {})),
        "bulk_query": urlencode({name: value for name, value in filters.items() if name in query.BULK}),
        "error": "",
        "is_first": not cursor,
        "tag_query": with_tag(filters, sort),
    }
    try:
        wanted = query.criteria(filters, now=timezone.now())
        found = find(organization, wanted, sort=order, cursor=cursor)
    except InvalidInput as error:
        return context | {"runs": [], "found": NOTHING, "error": str(error), "live": False, "in_bulk": False}
    in_bulk = filters.keys() <= {*query.BULK}
    live = in_bulk and order == "created" and not cursor
    return context | {"runs": shown_rows(found.runs), "found": found, "live": live, "in_bulk": in_bulk}


def with_tag(filters: dict[str, str], sort: str) -> str:
    """The address of the list with one more tag, which is to be added to it."""
    said = {name: value for name, value in filters.items() if name != "tag"} | ({"sort": sort} if sort else {})
    before = f"{quote(filters['tag'])}," if filters.get("tag") else ""
    return f"{urlencode(said)}{'&' * bool(said)}tag={before}"


def shown_rows(found: list[Run]) -> list[dict[str, Any]]:
    """The runs of a list, each with the hash of what its row shows."""
    rows = presenters.run_summaries(found)
    for row in rows:
        shown = [row["status"], row["startedAt"], row["endedAt"], row["error"]]
        row["hash"] = hashlib.blake2s(json.dumps(shown, default=str).encode(), digest_size=5).hexdigest()
    return rows


@page()
@require_GET
def counts(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The runs over time and by status, for the filters of the list."""
    filters = query.chosen(request.GET)
    try:
        drawn = histogram(organization, query.criteria(filters, now=timezone.now()), now=timezone.now())
    except InvalidInput:
        return HttpResponse("")
    statuses = []
    for name, count in drawn.counts.items():
        other = {key: value for key, value in filters.items() if key != "status"}
        link = "" if name == "live" else urlencode(other | {"status": name})
        statuses.append({"name": name, "count": count, "link": link})
    return render(request, "headrace/runs/_counts.html", {"drawn": drawn, "statuses": statuses, "chosen": filters})
