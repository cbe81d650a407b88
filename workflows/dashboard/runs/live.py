"""The live rows of the run list: what has changed since it was shown, for many lists at little cost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from cachetools import TTLCache
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.template import RequestContext
from django.template.loader import get_template
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import this_process
from workflows.dashboard.access import page
from workflows.dashboard.runs import columns, query
from workflows.dashboard.runs.views import NOTHING, shown_rows, with_tag
from workflows.edge.values import MAX_PAGE
from workflows.errors import InvalidInput
from workflows.models import Organization
from workflows.selectors.searching.walk import newer, rows_of

ENDED = "ended"
KEPT_S = 30.0
MOST_KEPT = 2_000
FETCHES_PER_S = 6
MOST_VIEWERS = 360
"""Their pauses are a minute then, and no longer."""


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
    new = shown_rows([run for run in found.runs if newest is None or run.id > newest])
    live = [run_id for run_id, hash_ in shown.items() if hash_ != ENDED]
    known = rows_of(organization, live) if live else {}
    changed = [row for row in shown_rows(list(known.values())) if shown.get(UUID(row["id"])) != row["hash"]]
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
    shown, tag_query = columns.chosen(request), with_tag(query.chosen(request.GET), "")
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
