"""The page of a run: whole, what has changed of it, and bodies when they are opened or downloaded."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters, selectors
from workflows.dashboard.access import page
from workflows.dashboard.run_page import SMALL, RunPage, input_of, run_page, shown_body
from workflows.errors import RunNotFound
from workflows.models import Organization
from workflows.presenters import redaction
from workflows.presenters.step_metrics import ms
from workflows.selectors.runs import RunDetail, StepDetail

BODIES = ("input", "output")


@page()
@require_GET
def run(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """A run with its waterfall."""
    detail = _detail(organization, run_id)
    found = detail.run
    context = {
        "run": found,
        "page": run_page(detail),
        "live": found.is_live,
        "now_ms": ms(found.created_at, timezone.now()),
        "end_ms": ms(found.created_at, found.ended_at),
        **_small_bodies(detail),
    }
    return render(request, "headrace/run.html", context)


@page()
@require_GET
def run_state(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """The hashes of all parts and lines, and for an ended run `endMs`; 304 where they are those of `If-None-Match`."""
    detail = _detail(organization, run_id)
    state = run_page(detail).state
    state["endMs"] = ms(detail.run.created_at, detail.run.ended_at)
    etag = f'"{hashlib.blake2s(json.dumps(state).encode(), digest_size=8).hexdigest()}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified(headers={"ETag": etag})
    return JsonResponse(state, headers={"ETag": etag, "Cache-Control": "no-cache"})


@page()
@require_GET
def run_parts(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """The parts that `part` names, and the lines at the positions of `line` (`all`: every one), as JSON.

    `parts`: by the id of the element its hash and content; `lines`: of each its key, hash and contents.
    """
    detail = _detail(organization, run_id)
    shown = run_page(detail)
    named = [shown.parts[name] for name in request.GET.getlist("part") if name in shown.parts]
    parts = {}
    for part in named:
        context = {"facts": part.facts, **(_small_bodies(detail) if part.name == "output" else {})}
        parts[f"run-{part.name}"] = {"hash": part.hash, "html": render_to_string(part.template, context, request)}
    return JsonResponse({"parts": parts, "lines": _rendered_lines(shown, request), "steps": shown.state["steps"]})


@page()
@require_GET
def step_body(request: HttpRequest, organization: Organization, run_id: UUID, key: str) -> HttpResponse:
    """A step's input, output and tries."""
    step = _step(organization, run_id, key)
    context: dict[str, Any] = {"attempts": [presenters.attempt_out(attempt) for attempt in step.attempts]}
    for what in BODIES:
        context[what] = _body(_step_value(step, what), reverse("headrace:step_download", args=[run_id, key, what]))
    return render(request, "headrace/run/_step_body.html", context)


@page()
@require_GET
def run_body(request: HttpRequest, organization: Organization, run_id: UUID, what: str) -> HttpResponse:
    """The input or output of a run."""
    value = _run_value(_detail(organization, run_id), what)
    body = _body(value, reverse("headrace:run_download", args=[run_id, what]))
    return render(request, "headrace/run/_body.html", {"body": body})


@page()
@require_GET
def run_download(request: HttpRequest, organization: Organization, run_id: UUID, what: str) -> HttpResponse:
    return _download(_run_value(_detail(organization, run_id), what), f"{run_id}-{what}.json")


@page()
@require_GET
def step_download(request: HttpRequest, organization: Organization, run_id: UUID, key: str, what: str) -> HttpResponse:
    step = _step(organization, run_id, key)
    if what not in BODIES:
        raise Http404
    return _download(_step_value(step, what), f"{run_id}-{key}-{what}.json")


def _rendered_lines(shown: RunPage, request: HttpRequest) -> list[dict[str, Any]]:
    asked = set(request.GET.getlist("line"))
    return [
        {
            "key": line.key,
            "hash": line.hash,
            "track": render_to_string("headrace/run/_track.html", {"line": line}),
            "summary": render_to_string("headrace/run/_summary.html", {"line": line}),
            **({"line": render_to_string("headrace/run/_line.html", {"line": line})} if "all" in asked else {}),
        }
        for position, line in enumerate(shown.lines)
        if "all" in asked or str(position) in asked
    ]


def _detail(organization: Organization, run_id: UUID) -> RunDetail:
    try:
        return selectors.run_detail(organization, run_id, bodies=False)
    except RunNotFound as error:
        raise Http404(str(error)) from None


def _step(organization: Organization, run_id: UUID, key: str) -> StepDetail:
    try:
        return selectors.step_detail(organization, run_id, key)
    except RunNotFound as error:
        raise Http404(str(error)) from None


def _run_value(detail: RunDetail, what: str) -> Any:
    if what not in BODIES:
        raise Http404
    value = detail.run.input if what == "input" else presenters.run_output(detail)
    return redaction.payload(detail.run.org_id, value, what)


def _step_value(step: StepDetail, what: str) -> Any:
    value = input_of(step) if what == "input" else step.step_run.output
    return redaction.payload(step.step_run.org_id, value, what)


def _small_bodies(detail: RunDetail) -> dict[str, Any]:
    """The input and output of a run where they are small enough to be shown at once: `small_input`, `small_output`."""
    found = {}
    for what in BODIES:
        body = _body(_run_value(detail, what), reverse("headrace:run_download", args=[detail.run.id, what]))
        found[f"small_{what}"] = body if len(body["text"]) <= SMALL else None
    return found


def _body(value: Any, download: str) -> dict[str, Any]:
    text, is_cut = shown_body(value)
    return {"text": text, "is_cut": is_cut, "download": download}


def _download(value: Any, name: str) -> HttpResponse:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="application/json", headers=headers)
