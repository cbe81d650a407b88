"""The pages of dead letters: a list, one letter, and what is done to one or to those that are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from dlq import selectors, services
from dlq.dashboard.answers import back_of
from dlq.dashboard.causes import TABS
from dlq.listing import letters as listing
from dlq.models import DeadLetter
from workflows import presenters
from workflows.dashboard.access import page
from workflows.edge.access import CHANGE_LETTERS
from workflows.edge.values import identifier
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization
from workflows.payload import Json
from workflows.services.access import hidden
from workflows.services.repair import KEEP, Repeat

FILTERS = ("status", "flow", "category", "type", "step", "event", "search", "run")
SHOWN = 200_000
"""Characters of a payload on the page; whole it is downloaded."""
EDITED = 500_000
"""The longest payload that can be edited on the page."""
MOST_CHOSEN = 200
WORDS = {"start": "replayed from the start", "resume": "resumed from the failed step"}


@page()
@require_GET
def letters(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Dead letters one by one, newest first."""
    chosen = {name: str(request.GET.get(name, "")).strip() for name in FILTERS}
    chosen["status"] = chosen["status"] or DeadLetter.Status.FAILED
    where = request.GET.copy()
    for name in ("status", "cursor", "org"):
        where.pop(name, None)
    context = {
        "letters": listing.page(organization, chosen, cursor=request.GET.get("cursor", "")),
        "chosen": chosen,
        "tabs": TABS,
        "where": where.urlencode(),
        "is_filtered": any(value for name, value in chosen.items() if name != "status"),
        "looked_at": listing.LOOKED_AT,
        "back": request.get_full_path(),
    }
    return render(request, "headrace/letters/letters.html", context)


@page()
@require_GET
def letter(request: HttpRequest, organization: Organization, letter_id: UUID) -> HttpResponse:
    """One letter: what failed, with what input, how often it was tried, and what was done about it."""
    found = listing.one(organization, letter_id)
    return render(request, "headrace/letters/letter.html", _context(found))


def _context(found: listing.Letter) -> dict[str, Any]:
    row = found.letter
    text = _text(_shown(row, row.event_data))
    return {
        "letter": row,
        "changes": found.changes,
        "tries": [presenters.attempt_line(each) for each in found.tries],
        "repair": found.repair,
        "newer": found.newer,
        "input": text[:SHOWN],
        "is_cut": len(text) > SHOWN,
        "text": text if len(text) <= EDITED else "",
        "download": reverse("headrace-letters:download", args=[row.id]),
    }


def _shown(row: DeadLetter, value: Json) -> Json:
    """A payload of the letter as people see it, and may change it: without what the organization's rules hide."""
    return hidden.editable(row.org_id, value, "input", [row.run_id])


def _text(value: Json, *, sort: bool = False) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str, sort_keys=sort)


@page()
@require_GET
def download(request: HttpRequest, organization: Organization, letter_id: UUID) -> HttpResponse:
    """The payload, whole."""
    row = selectors.detail(organization, letter_id).letter
    answer = HttpResponse(_text(_shown(row, row.event_data)), content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="{row.id}-input.json"'
    return answer


@page(CHANGE_LETTERS)
@require_POST
def repair(request: HttpRequest, organization: Organization, letter_id: UUID) -> HttpResponse:
    """Replay or resume a letter, with another payload where one is given; `preview`: say what that would do."""
    found = listing.one(organization, letter_id)
    given, mode = request.POST.get("data"), request.POST.get("mode", "start")
    force, by = request.POST.get("force") == "yes", request.user.get_username()
    is_preview, version = request.POST.get("preview") == "yes", request.POST.get("version") or None
    try:
        _check_seen(found.letter, request.POST.get("seen", ""))
        data = KEEP if given is None else _parsed(given)
        repeat = services.replay(
            organization, letter_id, by=by, mode=mode, data=data, version=version, force=force, dry_run=is_preview
        )  # fmt: skip
    except WorkflowsError as error:
        messages.error(request, str(error))
        if given is None:
            return redirect("headrace-letters:letter", letter_id=letter_id)
        context = {**_context(found), "text": given, "is_editing": True}  # what was written stays
        return render(request, "headrace/letters/letter.html", context, status=error.status)
    if is_preview:
        return render(
            request, "headrace/letters/preview.html",
            {**_plan(found.letter, repeat, data, given, mode), "version": version or ""},
        )  # fmt: skip
    _say(request, repeat, mode)
    return redirect("headrace-letters:letter", letter_id=letter_id)


def _plan(row: DeadLetter, repeat: Repeat, data: Json, given: str | None, mode: str) -> dict[str, Any]:
    shown = _shown(row, row.event_data)
    before, after = _text(shown, sort=True), _text(shown if data is KEEP else _shown(row, data), sort=True)
    return {"letter": row, "repeat": repeat, "before": before, "after": after, "data": given, "mode": mode,
            "word": WORDS.get(mode, mode)}  # fmt: skip


def _say(request: HttpRequest, repeat: Repeat, mode: str) -> None:
    steps = "1 step" if len(repeat.kept) == 1 else f"{len(repeat.kept)} steps"
    kept = f", with the outcomes of {steps} kept" if repeat.kept else ""
    messages.success(request, f"The run is {WORDS.get(mode, mode)}{kept}: the new run is {repeat.run_id}.")


def _parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"The payload is no JSON: {error}.") from None
    except RecursionError:
        raise InvalidInput("The payload is nested too deeply.") from None


def _check_seen(row: DeadLetter, seen: str) -> None:
    """Raises InvalidInput where the letter's status is not the one that was seen."""
    if seen != row.status:
        was = seen or "of no status"
        raise InvalidInput(f"The letter was {was} when you looked, and is {row.status} now: look again.")


@page(CHANGE_LETTERS)
@require_POST
def ignore(request: HttpRequest, organization: Organization, letter_id: UUID) -> HttpResponse:
    """Take a letter off the list for good, with the reason."""
    reason = request.POST.get("reason", "")
    return _turned(request, organization, letter_id, lambda by: services.ignore(
        organization, letter_id, by=by, reason=reason))  # fmt: skip


@page(CHANGE_LETTERS)
@require_POST
def reopen(request: HttpRequest, organization: Organization, letter_id: UUID) -> HttpResponse:
    """Put an ignored letter back on the list."""
    return _turned(request, organization, letter_id, lambda by: services.reopen(organization, letter_id, by=by))


def _turned(
    request: HttpRequest, organization: Organization, letter_id: UUID, act: Callable[[str], DeadLetter]
) -> HttpResponse:
    row = selectors.detail(organization, letter_id).letter
    try:
        _check_seen(row, request.POST.get("seen", ""))
        status = act(request.user.get_username()).status
        messages.success(request, "The letter is ignored." if status == "ignored" else "The letter is open again.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace-letters:letter", letter_id=letter_id)


@page(CHANGE_LETTERS)
@require_POST
def chosen(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Do one thing to the letters that are chosen, and say for each that was refused why."""
    seen = list(dict.fromkeys(request.POST.getlist("letter")))
    back = back_of(request, reverse("headrace-letters:causes"))
    if not 1 <= len(seen) <= MOST_CHOSEN:
        messages.error(request, f"Choose letters first: from 1 to {MOST_CHOSEN}. A bulk operation takes more.")
        return redirect(back)
    verb, reason, by = request.POST.get("action", ""), request.POST.get("reason", ""), request.user.get_username()
    acts: dict[str, tuple[str, Callable[[UUID], object]]] = {
        "resume": (WORDS["resume"], lambda id_: services.replay(organization, id_, by=by, mode="resume")),
        "replay": (WORDS["start"], lambda id_: services.replay(organization, id_, by=by)),
        "ignore": ("ignored", lambda id_: services.ignore(organization, id_, by=by, reason=reason)),
        "reopen": ("opened again", lambda id_: services.reopen(organization, id_, by=by)),
    }
    if verb not in acts:
        raise InvalidInput(f"action {verb!r} is unknown; use {', '.join(acts)}.")
    word, act = acts[verb]
    refusals = [(text, why) for text in seen if (why := _refusal(organization, text, act))]
    done = len(seen) - len(refusals)
    if done:
        messages.success(request, f"{done} of {len(seen)} letters are {word}.")
    for text, why in refusals:
        messages.error(request, f"Letter {text.partition(':')[0]} is not {word}: {why}")
    return redirect(back)


def _refusal(organization: Organization, text: str, act: Callable[[UUID], object]) -> str:
    """Do it to one (its id and the status that was seen); why not, where it is refused."""
    id_, _, seen = text.partition(":")
    try:
        letter_id: Any = identifier(id_, "letter")
        _check_seen(selectors.detail(organization, letter_id).letter, seen)
        act(letter_id)
    except WorkflowsError as error:
        return str(error)
    return ""
