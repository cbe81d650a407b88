"""The page of a run: whole, what has changed of it, and the bodies of the run."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import presenters
from workflows.dashboard import links
from workflows.dashboard.access import page
from workflows.dashboard.run.page import SMALL, RunPage, opened, run_page
from workflows.dashboard.run.read import BODIES, body_of, detail_of, download, run_value
from workflows.dashboard.run.timeline import WORDS
from workflows.models import Organization
from workflows.presenters import redaction
from workflows.presenters.step_metrics import ms
from workflows.selectors.around_run.history import history, relatives
from workflows.selectors.around_run.letters import letters_of
from workflows.selectors.runs import RunDetail


@page()
@require_GET
def run(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """A run with its waterfall."""
    detail = detail_of(organization, run_id)
    found = detail.run
    shown = run_page(detail, letters_of(found))
    kinds = {bar.kind for line in shown.lines for bar in line.bars}
    context = {
        "run": found,
        "page": shown,
        "live": found.is_live,
        "opened": opened(detail),
        "legend": [(kind, word) for kind, word in WORDS.items() if kind in kinds or found.is_live],
        "now_ms": ms(found.created_at, timezone.now()),
        "end_ms": ms(found.created_at, found.ended_at),
        **_small_bodies(detail),
    }
    return render(request, "headrace/run.html", context)


@page()
@require_GET
def run_state(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """The hashes of all parts and lines, and for an ended run `endMs`; 304 where they are those of `If-None-Match`."""
    detail = detail_of(organization, run_id)
    state = run_page(detail, letters_of(detail.run)).state
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
    detail = detail_of(organization, run_id)
    shown = run_page(detail, letters_of(detail.run))
    named = [shown.parts[name] for name in request.GET.getlist("part") if name in shown.parts]
    parts = {}
    for part in named:
        context = {"facts": part.facts, **(_small_bodies(detail) if part.name == "output" else {})}
        parts[f"run-{part.name}"] = {"hash": part.hash, "html": render_to_string(part.template, context, request)}
    return JsonResponse({"parts": parts, "lines": _rendered_lines(shown, request), "steps": shown.state["steps"]})


@page()
@require_GET
def run_history(request: HttpRequest, organization: Organization, run_id: UUID) -> HttpResponse:
    """Everything that happened to the run."""
    detail = detail_of(organization, run_id)
    found = history(detail, relatives(detail.run), letters_of(detail.run))
    rows = [
        {
            "item": each,
            "after_ms": ms(detail.run.created_at, each.at),
            "url": links.letter(each.letter_id)
            if each.letter_id
            else links.event(each.event_id)
            if each.event_id
            else reverse("headrace:run", args=[each.run_id])
            if each.run_id
            else "",
        }
        for each in found
    ]
    return render(request, "headrace/run/_history.html", {"rows": rows})


@page()
@require_GET
def run_body(request: HttpRequest, organization: Organization, run_id: UUID, what: str) -> HttpResponse:
    """The input or output of a run."""
    value = run_value(detail_of(organization, run_id), what)
    body = body_of(value, reverse("headrace:run_download", args=[run_id, what]))
    return render(request, "headrace/run/_body.html", {"body": body})


@page()
@require_GET
def run_download(request: HttpRequest, organization: Organization, run_id: UUID, what: str) -> HttpResponse:
    """The input or output of a run as a file; `run`: all of it, as the REST API shows it."""
    if what == "run":
        shown = presenters.run_out(detail_of(organization, run_id, bodies=True))
        return download(redaction.answer(organization.id, shown), f"{run_id}.json")
    return download(run_value(detail_of(organization, run_id), what), f"{run_id}-{what}.json")


def _rendered_lines(shown: RunPage, request: HttpRequest) -> list[dict[str, Any]]:
    asked = set(request.GET.getlist("line"))
    return [
        {
            "key": line.key,
            "hash": line.hash,
            "summary": render_to_string("headrace/run/_summary.html", {"line": line}),
            **({"line": render_to_string("headrace/run/_line.html", {"line": line})} if "all" in asked else {}),
        }
        for position, line in enumerate(shown.lines)
        if "all" in asked or str(position) in asked
    ]


def _small_bodies(detail: RunDetail) -> dict[str, Any]:
    """The input and output of a run where they are small enough to be shown at once: `small_input`, `small_output`."""
    found = {}
    for what in BODIES:
        body = body_of(run_value(detail, what), reverse("headrace:run_download", args=[detail.run.id, what]))
        found[f"small_{what}"] = body if len(body["text"]) <= SMALL else None
    return found
