"""The pages of the causes of dead letters: the list, and one with its letters, who looks after it, and its comments."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from dlq import services
from dlq.listing import causes as listing
from dlq.listing import letters as letter_listing
from dlq.models import DeadLetter, DeadLetterGroup
from workflows.dashboard.access import page
from workflows.duration import format_ms, parse_ms
from workflows.edge.access import CHANGE_LETTERS
from workflows.edge.values import whole_number
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization

MINE = "mine"
NOBODY = "nobody"
SNOOZES = (("1h", "an hour"), ("8h", "8 hours"), ("1d", "a day"), ("7d", "a week"), ("30d", "30 days"))
AUTOMATIC = (("", "as its category says"), ("0", "never"), ("1m", "after a minute"), ("5m", "after 5 minutes"),
             ("1h", "after an hour"), ("1d", "after a day"))  # fmt: skip
TABS = (("failed", "Open"), ("reprocessed", "Reprocessed"), ("ignored", "Ignored"), ("handled", "Handled by code"))


@page()
@require_GET
def causes(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What failed for good, by cause."""
    chosen = {name: str(request.GET.get(name, "")) for name in ("status", "search", "care", "snoozed")}
    chosen["status"] = chosen["status"] or DeadLetter.Status.FAILED
    care = {"": None, MINE: request.user.get_username(), NOBODY: ""}
    if chosen["care"] not in care:
        raise InvalidInput(f"care: {MINE}, {NOBODY}, or nothing.")
    found = listing.page(
        organization,
        status=chosen["status"],
        snoozed=chosen["snoozed"] == "yes",
        search=chosen["search"].strip(),
        assigned=care[chosen["care"]],
        number=whole_number(request.GET.get("page", "1")) or 0,
    )
    context: dict[str, Any] = {
        "page": found,
        "chosen": chosen,
        "tabs": [*TABS, ("all", "All")],
        "is_filtered": bool(chosen["search"] or chosen["care"]),
        "looked_at": listing.LOOKED_AT,
    }
    return render(request, "headrace/letters/causes.html", context)


@page()
@require_GET
def cause(request: HttpRequest, organization: Organization, group_id: UUID) -> HttpResponse:
    """One cause: how often, since when, who looks after it, what was found out; and its letters."""
    found = listing.one(organization, group_id)
    status = request.GET.get("status", "") or DeadLetter.Status.FAILED
    context: dict[str, Any] = {
        "cause": found,
        "tabs": [(name, label, found.counts[name]) for name, label in TABS],
        "status": status,
        "letters": letter_listing.page(
            organization, {"status": status}, group_id=group_id, cursor=request.GET.get("cursor", "")
        ),
        "looked_at": letter_listing.LOOKED_AT,
        "points": _points(found.history),
        "drawn": listing.DRAWN,
        "is_history_cut": any(count.number >= listing.DRAWN for count in found.counts.values()),
        "snoozes": SNOOZES,
        "automatic": _choices(found.group.auto_replay_s),
        "automatic_now": _spelling(found.group.auto_replay_s),
        "where": f"group={group_id}",
        "back": request.get_full_path(),
    }
    return render(request, "headrace/letters/cause.html", context)


def _points(history: list[int]) -> dict[str, Any]:
    first = int(timezone.now().timestamp()) // 3_600 * 3_600 - 3_600 * (len(history) - 1)
    series = [{"label": "failures", "color": "bar-failed", "values": history}]
    return {"x": [first + 3_600 * number for number in range(len(history))], "series": series}


def _spelling(seconds: int | None) -> str:
    """The choice of the form that stands for a number of seconds; the number itself where there is none."""
    if seconds is None:
        return ""
    return next((text for text, _ in AUTOMATIC if text and parse_ms(text) == seconds * 1_000), f"{seconds}s")


def _choices(seconds: int | None) -> tuple[tuple[str, str], ...]:
    """The choices of the form, with the one that holds now: saved as it stands, the form changes nothing."""
    now = _spelling(seconds)
    return AUTOMATIC if now in dict(AUTOMATIC) else (*AUTOMATIC, (now, f"after {format_ms((seconds or 0) * 1_000)}"))


Change = Callable[[HttpRequest, Organization, UUID], str]


def _changing(change: Change) -> Callable[..., HttpResponseBase]:
    """A view that makes a change of a cause, says the sentence that it returns, and shows the cause again."""

    @page(CHANGE_LETTERS)
    @require_POST
    def view(request: HttpRequest, organization: Organization, group_id: UUID) -> HttpResponse:
        try:
            messages.success(request, change(request, organization, group_id))
        except WorkflowsError as error:
            if error.status == 404:
                raise
            messages.error(request, str(error))
        return redirect("headrace-letters:cause", group_id=group_id)

    return view


@_changing
def assign(request: HttpRequest, organization: Organization, group_id: UUID) -> str:
    """Say who looks after it."""
    by = request.user.get_username()
    name = by if request.POST.get("me") == "yes" else request.POST.get("assignee", "").strip()
    group = services.assign(organization, group_id, to=name, by=by)
    return f"{group.assigned_to} looks after this cause." if group.assigned_to else "Nobody looks after this cause now."


@_changing
def snooze(request: HttpRequest, organization: Organization, group_id: UUID) -> str:
    """Leave it off lists and alerts for a while, or wake it."""
    length = request.POST.get("for", "")
    until = timezone.now() + dt.timedelta(milliseconds=_milliseconds(length, "for")) if length else None
    group: DeadLetterGroup = services.snooze(organization, group_id, until=until, by=request.user.get_username())
    if group.snoozed_until is None:
        return "The cause is awake: it is listed, and alerts count it."
    return f"Neither listed nor alerted until {group.snoozed_until:%Y-%m-%d %H:%M} UTC."


@_changing
def automatic(request: HttpRequest, organization: Organization, group_id: UUID) -> str:
    """Say after how long new letters are replayed by themselves."""
    text = request.POST.get("after", "")
    after_s = round(_milliseconds(text, "after") / 1_000) if text else None
    services.set_auto_replay(organization, group_id, after_s=after_s, by=request.user.get_username())
    said = {None: "as their category says", 0: "never by themselves"}.get(after_s, f"by themselves after {after_s} s")
    return f"New letters of this cause are replayed {said}."


@_changing
def comment(request: HttpRequest, organization: Organization, group_id: UUID) -> str:
    """Add what was found out."""
    text = request.POST.get("text", "")
    services.comment(organization, group_id, text=text, by=request.user.get_username())
    return "Your comment is kept."


def _milliseconds(text: str, name: str) -> int:
    try:
        return parse_ms(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}.") from None
