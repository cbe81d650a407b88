"""The run list: the page, its table alone, its live rows, and the counts over time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from cachetools import TTLCache
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.template import RequestContext
from django.template.loader import get_template
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters, selectors, this_process
from workflows.dashboard.access import page, user_id
from workflows.dashboard.runs import columns, query
from workflows.edge.values import MAX_PAGE
from workflows.errors import InvalidInput, RunNotFound
from workflows.models import Organization, Run
from workflows.selectors import run_lists
from workflows.selectors.pages import flows as flow_selectors
from workflows.selectors.searching.histogram import histogram
from workflows.selectors.searching.walk import SearchPage, find, newer, rows_of
from workflows.services.own import views as saved_views

TRIGGERS = ("manual", "api", "cli", "event", "cron", "webhook", "invoke")
ENDED = "ended"
KEPT_S = 30.0
MOST_KEPT = 2_000
FETCHES_PER_S = 6
MOST_VIEWERS = 360
"""Their pauses are a minute then, and no longer."""
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
        "tag_query": _with_tag(filters, sort),
    }
    try:
        wanted = query.criteria(filters, now=timezone.now())
        found = find(organization, wanted, sort=order, cursor=cursor)
    except InvalidInput as error:
        return context | {"runs": [], "found": NOTHING, "error": str(error), "live": False, "in_bulk": False}
    in_bulk = filters.keys() <= {*query.BULK}
    live = in_bulk and order == "created" and not cursor
    return context | {"runs": _rows(found.runs), "found": found, "live": live, "in_bulk": in_bulk}


def _with_tag(filters: dict[str, str], sort: str) -> str:
    """The address of the list with one more tag, which is to be added to it."""
    said = {name: value for name, value in filters.items() if name != "tag"} | ({"sort": sort} if sort else {})
    before = f"{quote(filters['tag'])}," if filters.get("tag") else ""
    return f"{urlencode(said)}{'&' * bool(said)}tag={before}"


def _rows(found: list[Run]) -> list[dict[str, Any]]:
    """The runs of a list, each with the hash of what its row shows."""
    rows = presenters.run_summaries(found)
    for row in rows:
        shown = [row["status"], row["startedAt"], row["endedAt"], row["error"]]
        row["hash"] = hashlib.blake2s(json.dumps(shown, default=str).encode(), digest_size=5).hexdigest()
    return rows


@page()
@require_GET
def live_rows(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What has changed since the list was shown: `rows` by their ids, and `new`: the rows that come before them. Where
    those are a page, `older` is the address of the next one. `pauseMs`: it is asked again after so long, or later.

    `shown`: the ids that the list shows, each with the hash of its row (`id:hash`; `id:ended` of one that stays).
    """
    shown, filters = _shown(request.GET), query.chosen(request.GET)
    newest = max(shown, default=None)
    found = NOTHING
    if filters.keys() <= {*query.BULK}:
        with contextlib.suppress(InvalidInput):  # the page itself says what is wrong
            found = newer(organization, query.criteria(filters, now=timezone.now()), newest)
    new = _rows([run for run in found.runs if newest is None or run.id > newest])
    live = [run_id for run_id, hash_ in shown.items() if hash_ != ENDED]
    known = rows_of(organization, live) if live else {}
    changed = [row for row in _rows(list(known.values())) if shown.get(UUID(row["id"])) != row["hash"]]
    html = _html(request, [*changed, *new])
    older = f"{urlencode(filters)}&cursor={quote(found.next_cursor)}" if found.next_cursor and newest else ""
    return JsonResponse({
        "rows": {row["id"]: text for row, text in zip(changed, html, strict=False)},
        "new": [{"id": row["id"], "html": text} for row, text in zip(new, html[len(changed):], strict=True)],
        "pauseMs": this_process.own(Viewers).pause_ms(request.session.session_key or ""),
        "older": f"{reverse('headrace:runs')}?{older}" if older else "",
    })  # fmt: skip


def _shown(given: QueryDict) -> dict[UUID, str]:
    shown = {}
    for text in given.get("shown", "").split(",")[:MAX_PAGE]:
        id_, _, hash_ = text.partition(":")
        try:
            shown[UUID(id_)] = hash_
        except ValueError:
            continue
    return shown


class Viewers:
    """The browsers that follow lists with this process: each is told how long to wait, so that all of them together ask
    six times a second at most, however often something changes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: TTLCache[str, bool] = TTLCache(MOST_VIEWERS, ttl=2 * MOST_VIEWERS / FETCHES_PER_S, timer=clock)
        self._lock = threading.Lock()

    def pause_ms(self, session: str) -> int:
        """The milliseconds until the browser of this session may ask again."""
        with self._lock:
            self._seen[session] = True
            self._seen.expire()
            return round(len(self._seen) * 1000 / FETCHES_PER_S)


class Rendered:
    """Rows as they were rendered, for the pages of others that show the same ones: two hundred lists of a busy
    organization ask for the same new runs within seconds."""

    def __init__(self) -> None:
        self._rows: TTLCache[tuple[str, ...], str] = TTLCache(MOST_KEPT, ttl=KEPT_S)
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...]) -> str | None:
        with self._lock:
            return self._rows.get(key)

    def keep(self, key: tuple[str, ...], html: str) -> None:
        with self._lock:
            self._rows[key] = html


def _html(request: HttpRequest, rows: list[dict[str, Any]]) -> list[str]:
    """The rows of a table. Nothing in them is of one login alone, but for what it may do."""
    shown, tag_query = columns.chosen(request), _with_tag(query.chosen(request.GET), "")
    may = request.may["change_runs"]  # type: ignore[attr-defined]
    of_page = (str(may), tag_query, reverse("headrace:runs"), *(each.name for each in shown))
    rendered = this_process.own(Rendered)
    template: Any = get_template("headrace/runs/_row.html").template  # type: ignore[attr-defined]
    context = RequestContext(request, {"columns": shown, "tag_query": tag_query})
    found = []
    with context.bind_template(template):  # the processors of contexts once for all rows
        for row in rows:
            key = (row["id"], row["hash"], *of_page)
            html = rendered.get(key)
            if html is None:
                with context.push(run=row):
                    html = template.render(context)
                rendered.keep(key, html)
            found.append(html)
    return found


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
