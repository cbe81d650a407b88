"""The overview, what of it is live, and the runs behind a point of its charts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters, services, signals
from workflows.dashboard.access import page, refused
from workflows.dashboard.overview import charts
from workflows.edge.values import moment
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.selectors.pages import behind, measured

SHOWN_WORKERS = 8


@page()
@require_GET
def overview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The page. `?span=1h`, `24h` or `7d`."""
    return render(request, "headrace/overview/overview.html", _context(request, organization))


@page()
@require_GET
def now(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What is live: the numbers, and the charts where another minute was counted since `?counted=`."""
    context = _context(request, organization)
    counted_at = context["now"].counted_at
    context["is_swap"] = (counted_at.isoformat() if counted_at else "") != request.GET.get("counted", "")
    return render(request, "headrace/overview/_now.html", context)


def _context(request: HttpRequest, organization: Organization) -> dict[str, Any]:
    span = measured.SPANS.get(request.GET.get("span", ""), measured.SPANS["1h"])
    parts = measured.buckets(organization, span, timezone.now())
    state = measured.now(organization)
    added: dict[str, Any] = {}
    answers: list[tuple[Any, Any]] = signals.overview_shown.send(sender=None, organization=organization)
    for _, values in answers:
        added |= values
    return {
        "span": span,
        "spans": list(measured.SPANS.values()),
        "charts": charts.charts(parts, span),
        "total": measured.total(parts),
        "now": state,
        "most": measured.MOST_COUNTED,
        "capacity": services.capacity(active=state.running, waiting=state.queued),
        "shown_workers": [_worker(each) for each in state.workers[:SHOWN_WORKERS]],
        "more_workers": max(0, len(state.workers) - SHOWN_WORKERS),
        "has_runs": measured.has_runs(organization),
        **added,
    }


def _worker(worker: Any) -> dict[str, Any]:
    cores = worker.cpu_cores
    return {
        "name": worker.name,
        "queues": ", ".join(queue.removeprefix("headrace.") for queue in worker.queues),
        "active": worker.active,
        "slots": worker.slots,
        "cpu_percent": None if cores is None else round(100 * cores),
        "memory_mb": None if worker.memory_bytes is None else round(worker.memory_bytes / 1_048_576),
        "started_at": worker.started_at,
    }


@page()
@require_GET
def runs_behind(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The runs behind a point: `?kind=failed&since=…&until=…`."""
    try:
        kind = request.GET.get("kind", "ended")
        since, until = (moment(request.GET.get(name, ""), name) for name in ("since", "until"))
        found = behind.runs_behind(organization, kind, since, until, cursor=request.GET.get("cursor", ""))
    except WorkflowsError as error:
        return refused(request, error)
    notes = {str(run_id): note for run_id, note in found.notes.items()}
    rows = [{**each, "note": notes.get(each["id"], "")} for each in presenters.run_summaries(found.runs)]
    context = {
        "title": behind.TITLES[kind], "kind": kind, "since": since, "until": until, "runs": rows,
        "next_cursor": found.next_cursor, "read_until": found.read_until, "most_tries": behind.MOST_TRIES,
    }  # fmt: skip
    return render(request, "headrace/overview/behind.html", context)
