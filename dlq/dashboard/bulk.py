"""Bulk operations on dead letters: what one would do, its start, its progress, stop and resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from dlq import selectors, services
from dlq.listing import letters as listing
from workflows.dashboard import bulk as pages
from workflows.dashboard.access import page
from workflows.dashboard.bulk import Kind, Subject, Words
from workflows.edge.access import CHANGE_LETTERS
from workflows.errors import InvalidInput
from workflows.models import Organization
from workflows.services import bulk, repair

NAMES = tuple(name for name in selectors.NAMES if name != "status")


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


@page(CHANGE_LETTERS)
@require_GET
def preview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What a bulk operation would do: to how many letters, at which pace, for how long; with a try on some."""
    kind, where = _kind(request.GET), _where(request.GET)
    pace = pages.pace_of(request.GET.get("pace", ""))
    draft = bulk.draft(organization, kind.action, where, per_second=pace)
    name = request.GET["action"]
    query = QueryDict(mutable=True)
    query.update({"action": name, **where})
    context = pages.before(organization, LETTERS, kind, draft, where)
    context |= {
        "where": where, "hidden": {"action": name, **where}, "query": query.urlencode(),
        "start_url": reverse("headrace-letters:start"),
    }  # fmt: skip
    return render(request, "headrace/letters/bulk.html", context)


def _words(organization: Organization, filters: Sequence[Mapping[str, Any]]) -> list[Words]:
    """The filters as the page says them: a group by its message."""
    named = [{name: str(value) for name, value in each.items() if name != "until"} for each in filters]
    groups = selectors.groups_named(organization, {each["group"] for each in named if "group" in each})
    return [
        {"cause": str(groups.get(each["group"], "none")), **{name: each[name] for name in each if name != "group"}}
        if "group" in each
        else each
        for each in named
    ]


LETTERS = Subject(
    one="letter",
    many="letters",
    kinds=KINDS,
    actions=services.BULK_ACTIONS,
    home="headrace-letters:causes",
    home_label="Dead letters",
    listing="headrace-letters:operations",
    page="headrace-letters:operation",
    turn="headrace-letters:turn",
    item="headrace-letters:letter",
    every="Every open letter of the organization.",
    later="What fails from now on does not belong to it.",
    hint="Open a cause, and resume, replay or ignore all of its letters at once, at a pace of yours.",
    right=CHANGE_LETTERS,
    words=_words,
)


@page(CHANGE_LETTERS)
@require_GET
def trial(request: HttpRequest, organization: Organization) -> HttpResponse:
    """A part of the preview: what a repair would do to some of the letters."""
    kind = _kind(request.GET)
    by = request.user.get_username()
    found = None
    if kind.mode:
        version = pages.version_of(kind, request.GET.get("version", ""))
        options = repair.options(kind.mode, version, force=False)
        found = listing.trial(organization, _where(request.GET), options=options, by=by)
    return render(request, "headrace/letters/_trial.html", {"trial": found, "kind": kind})


@page(CHANGE_LETTERS)
@require_POST
def start(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Start it, and show how it comes along."""
    kind, where = _kind(request.POST), _where(request.POST)
    version = pages.version_of(kind, request.POST.get("version", ""))
    options = repair.options(kind.mode, version, force=False) if kind.mode else {"reason": _reason(request.POST)}
    by, pace = request.user.get_username(), pages.pace_of(request.POST.get("pace", ""))
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
    return pages.listing(request, organization, LETTERS)


@page()
@require_GET
def operation(request: HttpRequest, organization: Organization, operation_id: UUID) -> HttpResponse:
    """How an operation comes along; the part that changes alone for htmx."""
    return pages.one(request, organization, LETTERS, operation_id)


@page(CHANGE_LETTERS)
@require_POST
def turn(request: HttpRequest, organization: Organization, operation_id: UUID, verb: str) -> HttpResponse:
    """Stop an operation, or go on with it."""
    return pages.turn(request, organization, LETTERS, operation_id, verb)
