"""The page that changes a limit: its values, what they would have done to last week's runs, and their removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from throttling import overrides
from throttling.errors import ThrottlingError
from throttling.models import ThrottleOverride
from workflows.dashboard.access import page
from workflows.dashboard.limits.views import address_of, may_change
from workflows.duration import format_ms, parse_ms
from workflows.edge import access
from workflows.edge.values import refuse_unstorable, whole_number
from workflows.errors import Forbidden, InvalidInput, WorkflowsError
from workflows.models import Organization
from workflows.selectors import limit_subjects
from workflows.selectors.limit_subjects import Subject
from workflows.selectors.limits import describe
from workflows.services import limits
from workflows.simulation import what_if

SCOPES = ("global", "runs", "type", "flow", "org", "limit")
FIELDS = ("concurrency", "rate_limit", "rate_period", "rate_algorithm", "rate_burst", "note")
NO_OPERATOR = "This limit holds for all organizations: an operator of the installation changes it."


def subject_of(organization: Organization, given: Mapping[str, str]) -> Subject:
    """The subject that a form or an address names. Raises InvalidInput and FlowNotFound."""
    scope, name = given.get("scope", ""), given.get("name", "").strip()
    refuse_unstorable(scope=scope, name=name)
    if scope not in SCOPES:
        raise InvalidInput(f"scope {scope!r} is unknown; use {', '.join(SCOPES)}.")
    of_all = scope in {"global", "runs"} or given.get("all") == "yes"
    org_id = None if of_all else organization.id
    if scope == "flow":
        flow = limits.flow_of(organization, given.get("flow", ""))
        return Subject(scope=scope, flow=flow.slug, flow_id=flow.id, org_id=organization.id)
    if scope == "type":
        subject = Subject(scope=scope, type=given.get("type", ""), org_id=org_id)
    elif scope == "limit":
        if not 1 <= len(name) <= 100:
            raise InvalidInput("name: the shared limit's, as steps write it in `throttling.limit`.")
        subject = Subject(scope=scope, name=name, org_id=org_id)
    else:
        subject = Subject(scope=scope, org_id=None if of_all else organization.id)
    return subject


@page()
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The form of a limit; its preview (`do=preview`); or it is saved (`do=save`)."""
    given = request.POST if request.method == "POST" else request.GET
    subject = subject_of(organization, given)
    _require(request, organization, subject)
    stored = limit_subjects.row_of(subject)
    context = _context(subject, stored)
    if request.method == "GET":
        return render(request, "headrace/limits/change.html", context)
    form = context["form"] = {name: str(given.get(name, "")) for name in FIELDS}
    if form["rate_limit"].strip() and not form["rate_period"].strip():
        form["rate_period"] = context["now_period"]  # the field shows it
    try:
        _check_seen(stored, given.get("seen", ""))
        row = _row(stored, form)
        if given.get("do") == "save":
            limits.put_limit(row, by=_by(request), keep_weight=not access.is_operator(request.user))
            messages.success(request, f"It holds on all workers within a second: {_words(row)} for {subject.title}.")
            return redirect("headrace:limits")
        limits.check_limit(row)
        context |= _preview(organization, subject, row)
    except (WorkflowsError, ThrottlingError) as error:
        context["error"] = str(error)
        status = error.status if isinstance(error, WorkflowsError) else 422
        return render(request, "headrace/limits/change.html", context, status=status)
    return render(request, "headrace/limits/change.html", context)


def _by(request: HttpRequest) -> str:
    return f"user {request.user.get_username()}"


def _require(request: HttpRequest, organization: Organization, subject: Subject) -> None:
    if may_change(request, organization, subject):
        return
    if subject.of_all:
        raise Forbidden(NO_OPERATOR)
    access.require(request.user, access.CHANGE_LIMITS, organization)


def _context(subject: Subject, stored: ThrottleOverride) -> dict[str, Any]:
    now = limit_subjects.values_now(subject)
    period = stored.rate_period_ms
    return {
        "subject": subject,
        "address": address_of(subject),
        "is_stored": _is_stored(stored),
        "has_more": any((stored.key, stored.max_attempts, stored.backoff, stored.weight)),
        "seen": _seen(stored),
        "now": now,
        "now_period": format_ms(now.rate.per_ms) if now.rate else "",
        "changes": limit_subjects.changes_of(subject),
        "form": {
            "concurrency": stored.concurrency or "",
            "rate_limit": stored.rate_limit or "",
            "rate_period": format_ms(period) if period else "",
            "rate_algorithm": stored.rate_algorithm,
            "rate_burst": stored.rate_burst,
            "note": stored.note,
        },
    }


def _is_stored(row: ThrottleOverride) -> bool:
    return not row._state.adding


def _seen(row: ThrottleOverride) -> str:
    return row.changed_at.isoformat() if _is_stored(row) else "none"


def _check_seen(row: ThrottleOverride, seen: str) -> None:
    """Raises InvalidInput where somebody has changed the limit since the form was made."""
    if seen != _seen(row):
        by = f" by {row.changed_by}" if _is_stored(row) else ""
        raise InvalidInput(f"The limit was changed{by} since you looked: open this page again to see what holds now.")


def _row(stored: ThrottleOverride, given: Mapping[str, str]) -> ThrottleOverride:
    """The override as the form says it; what the form does not show stays. Raises InvalidInput."""
    period = given.get("rate_period", "").strip()
    try:
        period_ms = parse_ms(period) if period else None
    except ValueError as error:
        raise InvalidInput(f"in a period of: {error}.") from None
    note = given.get("note", "").strip()
    refuse_unstorable(note=note)
    row = ThrottleOverride(
        scope=stored.scope,
        type=stored.type,
        flow_id=stored.flow_id,
        org_id=stored.org_id,
        name=stored.name,
        key=stored.key,
        max_attempts=stored.max_attempts,
        backoff=stored.backoff,
        delay_ms=stored.delay_ms,
        max_delay_ms=stored.max_delay_ms,
        weight=stored.weight,
        concurrency=_number(given, "concurrency", "at once"),
        rate_limit=_number(given, "rate_limit", "starts"),
        rate_period_ms=period_ms,
        rate_algorithm=given.get("rate_algorithm") or "window",
        rate_burst=_number(given, "rate_burst", "burst") or 1,
        note=note,
    )
    if row.rate_algorithm not in ThrottleOverride.Algorithm.values:
        raise InvalidInput(f"algorithm: {' or '.join(ThrottleOverride.Algorithm.values)}.")
    if len(note) > 500:
        raise InvalidInput("why: at most 500 characters.")
    return row


def _number(given: Mapping[str, str], name: str, label: str) -> int | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    number = whole_number(text)
    if not number:
        raise InvalidInput(f"{label}: write a whole number from 1, or nothing for no value.")
    return number


def _words(row: ThrottleOverride) -> str:
    parts = [f"{row.concurrency:,} at once"] if row.concurrency else []
    if row.rate_limit and row.rate_period_ms:
        parts.append(f"{row.rate_limit:,} starts in {format_ms(row.rate_period_ms)}")
    return " and ".join(parts) or "no limit of its own"


def _preview(organization: Organization, subject: Subject, row: ThrottleOverride | None) -> dict[str, Any]:
    """What the change would have done; `words`: what it is."""
    changed = overrides.as_override(row) if row is not None else None
    found = what_if.compare(None if subject.of_all else organization, subject.key, changed)
    words = _words(row) if row is not None else "as it is shipped, configured or defined"
    if found is None:
        return {"preview": None, "words": words, "is_previewed": True}
    binding = [
        [(describe(instance), percent) for instance, percent in each.binding] for each in (found.now, found.changed)
    ]
    return {"preview": found, "words": words, "is_previewed": True, "binding": binding}


@page()
@require_POST
def remove(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Remove an override: what is shipped, configured or defined holds again."""
    subject = subject_of(organization, request.POST)
    _require(request, organization, subject)
    stored = limit_subjects.row_of(subject)
    try:
        _check_seen(stored, request.POST.get("seen", ""))
        if not _is_stored(stored):
            raise InvalidInput("There is no value of its own to remove.")
        limits.delete_limit(stored, by=_by(request), keep_weight=not access.is_operator(request.user))
    except WorkflowsError as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('headrace:change_limit')}?{address_of(subject)}")
    messages.success(request, f"What is shipped, configured or defined holds again for {subject.title}.")
    return redirect("headrace:limits")
