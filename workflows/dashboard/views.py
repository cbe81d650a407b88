"""The run list, and what is done to a run. Reads come from `selectors`, actions go to `services`."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from workflows import presenters, selectors, services
from workflows.dashboard.access import page
from workflows.edge.access import CHANGE_RUNS
from workflows.edge.values import OLD_WORDS
from workflows.errors import InvalidInput, RunNotFound, RunNotLive, WorkflowsError
from workflows.models import Organization, Run
from workflows.selectors import run_lists
from workflows.services import repair

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


@page(CHANGE_RUNS)
@require_POST
def replay(request: HttpRequest, organization: Organization, run_id: UUID, mode: str) -> HttpResponse:
    """Run an ended run again, and show the new one. A second repair is made where the form says so (`force`)."""
    by, force = request.user.get_username(), request.POST.get("force") == "yes"
    try:
        repeat = repair.replay(organization, run_id, by=by, mode=mode, force=force)
    except RunNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:  # not ended yet, or an input that the flow takes no more
        messages.error(request, str(error))
        return redirect("headrace:run", run_id=run_id)
    return redirect("headrace:run", run_id=repeat.run_id)


@page(CHANGE_RUNS)
@require_POST
def cancel(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """Cancel the run and show it again."""
    try:
        if not services.cancel_runs(organization, [run_id], reason=f"by {request.user.get_username()}"):
            services.get_run(organization, run_id)
            messages.warning(request, str(RunNotLive()))
    except RunNotFound as error:
        raise Http404(str(error)) from None
    return redirect("headrace:run", run_id=run_id)
