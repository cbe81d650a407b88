"""The pages. Reads come from `selectors`, actions go to `services`."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from workflows import presenters, repair, run_lists, selectors, services
from workflows.dashboard.timeline import timeline
from workflows.errors import InvalidInput, RunNotFound, WorkflowsError
from workflows.models import Organization, Run

FILTERS = ("status", "workflow", "trigger", "event", "since", "until")


def shown_organization(request: HttpRequest) -> Organization:
    """The organization that the dashboard shows: the first one, until memberships choose."""
    found = Organization.objects.order_by("created_at").first()
    if found is None:
        raise Http404("There is no organization yet; `make up` creates one.")
    return found


def _moment(text: str) -> dt.datetime | None:
    """A time of a form, in UTC; nothing for none and for one that is no time."""
    try:
        found = parse_datetime(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=dt.UTC) if found and found.tzinfo is None else found


@login_required
@require_GET
def runs(request: HttpRequest) -> HttpResponse:
    """The run list; the table alone for htmx."""
    organization = shown_organization(request)
    chosen = {name: request.GET.get(name, "") for name in FILTERS}
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
        workflow=chosen["workflow"],
        trigger=chosen["trigger"],
        event_name=chosen["event"],
        since=_moment(chosen["since"]),
        until=_moment(chosen["until"]),
    )
    try:
        page = run_lists.runs_page(organization, where, sort=sort, cursor=request.GET.get("cursor", ""))
        context |= {"runs": [presenters.run_summary(run) for run in page.runs], "next_cursor": page.next_cursor}
    except InvalidInput as error:
        context |= {"runs": [], "next_cursor": "", "error": str(error)}
    context["live"] = not request.GET.get("cursor")
    template = "dashboard/_runs_table.html" if request.headers.get("HX-Request") else "dashboard/runs.html"
    return render(request, template, context)


@login_required
@require_GET
def run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """A run with its waterfall; the live part alone for htmx."""
    try:
        detail = selectors.run_detail(shown_organization(request), run_id)
    except RunNotFound as error:
        raise Http404(str(error)) from None
    context = {
        "detail": detail,
        "run": presenters.run_out(detail),
        "timeline": timeline(detail, timezone.now()),
        "live": detail.run.is_live,
    }
    template = "dashboard/_run_body.html" if request.headers.get("HX-Request") else "dashboard/run.html"
    return render(request, template, context)


@login_required
@require_POST
def replay(request: HttpRequest, run_id: UUID, mode: str) -> HttpResponse:
    """Run an ended run again, and show the new one."""
    try:
        repeat = repair.replay(shown_organization(request), run_id, mode=mode)
    except RunNotFound as error:
        raise Http404(str(error)) from None
    except WorkflowsError as error:  # not ended yet, or an input that the flow takes no more
        messages.error(request, str(error))
        return redirect("dashboard:run", run_id=run_id)
    return redirect("dashboard:run", run_id=repeat.run_id)


@login_required
@require_POST
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Cancel the run and show it again."""
    try:
        services.cancel_run(shown_organization(request), run_id, reason=f"by {request.user.get_username()}")
    except RunNotFound as error:
        raise Http404(str(error)) from None
    return redirect("dashboard:run", run_id=run_id)
