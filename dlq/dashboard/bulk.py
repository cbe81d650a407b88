"""Bulk operations on dead letters: what one would do, its start, its progress, stop and resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from dlq import selectors, services
from dlq.listing import letters as listing
from workflows.dashboard.access import page
from workflows.edge.access import CHANGE_LETTERS
from workflows.errors import InvalidInput, OperationNotFound
from workflows.models import BulkOperation, Organization
from workflows.services import bulk

NAMES = tuple(name for name in selectors.NAMES if name != "status")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the pages offer in bulk. `mode`: of a repair; empty for what is none."""

    word: str
    action: str
    done: str
    mode: str = ""


KINDS = {
    "resume": Kind(word="Resume", action="replay_dead_letters", done="resumed from the failed step", mode="resume"),
    "replay": Kind(word="Replay", action="replay_dead_letters", done="replayed from the start", mode="start"),
    "ignore": Kind(word="Ignore", action="ignore_dead_letters", done="ignored"),
}


def _kind(given: QueryDict) -> Kind:
    name = given.get("action", "")
    if name not in KINDS:
        raise InvalidInput(f"action {name!r} is unknown; use {', '.join(KINDS)}.")
    return KINDS[name]


def _where(given: QueryDict) -> dict[str, str]:
    """The filter; what fails after the page was made does not belong to it."""
    where = {name: str(given[name]).strip() for name in NAMES if given.get(name, "").strip()}
    where.setdefault("until", timezone.now().isoformat())
    return where


def _pace(given: QueryDict) -> float | None:
    text = given.get("pace", "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"pace {text[:50]!r} is no number; write how many a second, such as 20.") from None


@page(CHANGE_LETTERS)
@require_GET
def preview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What a bulk operation would do: to how many letters, at which pace, for how long; with a try on some."""
    kind, where = _kind(request.GET), _where(request.GET)
    draft = bulk.draft(organization, kind.action, where, per_second=_pace(request.GET))
    query = QueryDict(mutable=True)
    query.update({"action": request.GET["action"], **where})
    context: dict[str, Any] = {
        "kind": kind,
        "name": request.GET["action"],
        "draft": draft,
        "lasts_ms": round(draft.matched / draft.per_second * 1_000),
        "where": where,
        "words": _words(organization, where),
        "query": query.urlencode(),
    }
    return render(request, "headrace/letters/bulk.html", context)


def _words(organization: Organization, where: dict[str, Any]) -> dict[str, str]:
    """The filter as the page says it: a group by its message."""
    words = {name: str(value) for name, value in where.items() if name != "until"}
    if "group" in words:
        found = selectors.group_where(organization, words.pop("group")).first()
        words = {"cause": str(found) if found else "none", **words}
    return words


@page(CHANGE_LETTERS)
@require_GET
def trial(request: HttpRequest, organization: Organization) -> HttpResponse:
    """A part of the preview: what a repair would do to some of the letters."""
    kind = _kind(request.GET)
    by = request.user.get_username()
    found = listing.trial(organization, _where(request.GET), mode=kind.mode, by=by) if kind.mode else None
    return render(request, "headrace/letters/_trial.html", {"trial": found, "kind": kind})


@page(CHANGE_LETTERS)
@require_POST
def start(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Start it, and show how it comes along."""
    kind, where = _kind(request.POST), _where(request.POST)
    options: dict[str, Any] = {"mode": kind.mode} if kind.mode else {"reason": _reason(request.POST)}
    by, pace = request.user.get_username(), _pace(request.POST)
    operation = bulk.start(organization, kind.action, where, by=by, options=options, per_second=pace)
    return redirect("headrace-letters:operation", operation_id=operation.id)


def _reason(given: QueryDict) -> str:
    reason = given.get("reason", "").strip()
    if not 1 <= len(reason) <= services.MAX_TEXT:
        raise InvalidInput("reason: write why these letters are ignored.")
    return reason


@page()
@require_GET
def operations(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The latest bulk operations on dead letters."""
    rows = [_shown(each) for each in bulk.recent(organization, actions=services.BULK_ACTIONS, limit=200)]
    return render(request, "headrace/letters/operations.html", {"operations": rows})


@page()
@require_GET
def operation(request: HttpRequest, organization: Organization, operation_id: UUID) -> HttpResponse:
    """How an operation comes along; the part that changes alone for htmx."""
    found = bulk.get(organization, operation_id)
    if found.action not in services.BULK_ACTIONS:
        raise OperationNotFound
    part = request.headers.get("HX-Request")
    context = {**_shown(found), "words": _words(organization, found.filter)}
    return render(request, "headrace/letters/_operation.html" if part else "headrace/letters/operation.html", context)


def _shown(row: BulkOperation) -> dict[str, Any]:
    looked_at = row.done + row.passed_over + row.repaired_before
    mode = row.options.get("mode", "")
    kind = next((each for each in KINDS.values() if each.action == row.action and each.mode == mode), None)
    return {
        "operation": row,
        "word": kind.word if kind else row.action,
        "done_word": kind.done if kind else "done",
        "looked_at": looked_at,
        "percent": 100 if row.status == "completed" or not row.matched else min(100, 100 * looked_at / row.matched),
        "left_ms": round(max(0, row.matched - looked_at) / row.per_second * 1_000),
    }


@page(CHANGE_LETTERS)
@require_POST
def turn(request: HttpRequest, organization: Organization, operation_id: UUID, verb: str) -> HttpResponse:
    """Stop an operation, or go on with it."""
    if verb not in {"stop", "resume"}:
        raise Http404
    found = bulk.get(organization, operation_id)
    if found.action not in services.BULK_ACTIONS:
        raise OperationNotFound
    act, wanted = (bulk.stop, "stopped") if verb == "stop" else (bulk.resume, "running")
    row = act(organization, operation_id, by=request.user.get_username())
    if row.status == wanted != found.status:
        messages.success(request, "It is stopped." if verb == "stop" else "It goes on.")
    else:
        messages.warning(request, f"It is {row.status}: there is nothing to {verb}.")
    return redirect("headrace-letters:operation", operation_id=operation_id)
