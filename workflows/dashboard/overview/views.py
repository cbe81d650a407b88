"""The overview, what of it is live, and the runs behind a point of its charts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters, services, signals
from workflows.dashboard.access import page
from workflows.dashboard.overview import charts
from workflows.edge.values import moment
from workflows.models import Organization
from workflows.selectors.pages import behind, measured

SHOWN_WORKERS = 8


@page()
@require_GET
def overview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The page. `?span=1h`, `24h` or `7d`."""
    span = _span(request)
    context = {
        **_state(organization, measured.now(organization)), **_charts(organization, span),
        "spans": list(measured.SPANS.values()), "has_runs": measured.has_runs(organization),
    }  # fmt: skip
    return render(request, "headrace/overview/overview.html", context)


@page()
@require_GET
def now(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What is live; and what is made of minutes, where another one was counted since `?counted=`."""
    span, state = _span(request), measured.now(organization)
    context = {**_state(organization, state), "span": span}
    if (state.counted_at.isoformat() if state.counted_at else "") != request.GET.get("counted", ""):
        context |= {**_charts(organization, span), "is_swap": True}
    return render(request, "headrace/overview/_now.html", context)


def _span(request: HttpRequest) -> measured.Span:
    return measured.SPANS.get(request.GET.get("span", ""), measured.SPANS["1h"])


def _charts(organization: Organization, span: measured.Span) -> dict[str, Any]:
    parts = measured.buckets(organization, span, timezone.now())
    return {"span": span, "charts": charts.charts(parts, span), "total": measured.total(parts)}


def _state(organization: Organization, state: measured.Now) -> dict[str, Any]:
    added: dict[str, Any] = {}
    answers: list[tuple[Any, Any]] = signals.overview_shown.send(sender=None, organization=organization)
    for _, values in answers:
        added |= values
    return {
        "now": state,
        "most": measured.MOST_COUNTED,
        "capacity": services.capacity(active=state.running, waiting=state.queued),
        "shown_workers": [_worker(each) for each in state.workers[:SHOWN_WORKERS]],
        "more_workers": max(0, len(state.workers) - SHOWN_WORKERS),
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
    kind = request.GET.get("kind", "ended")
    since, until = (moment(request.GET.get(name, ""), name) for name in ("since", "until"))
    found = behind.runs_behind(organization, kind, since, until, cursor=request.GET.get("cursor", ""))
    notes = {str(run_id): note for run_id, note in found.notes.items()}
    rows = [{**each, "note": notes.get(each["id"], "")} for each in presenters.run_summaries(found.runs)]
    context = {
        "title": behind.TITLES[kind], "kind": kind, "since": since, "until": until, "runs": rows,
        "next_cursor": found.next_cursor, "read_until": found.read_until, "most_tries": behind.MOST_TRIES,
    }  # fmt: skip
    return render(request, "headrace/overview/behind.html", context)
