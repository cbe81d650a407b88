"""How long things are kept: the rules in force, what a change would mean, and how far deleting is."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from workflows.dashboard import audited
from workflows.dashboard.access import page
from workflows.edge import access
from workflows.edge.access import CHANGE_ORGANIZATION
from workflows.errors import Forbidden, InvalidInput, WorkflowsError
from workflows.models import Organization
from workflows.selectors.tenancy import quotas
from workflows.selectors.upkeep import bloat
from workflows.selectors.upkeep import retention as selectors
from workflows.services.retention import rules

SHOWN_TABLES = 15
PLACES = {"this": "this organization", "all": "all organizations without a rule of their own"}


@page()
@require_http_methods(["GET", "POST"])
def retention(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The rules and how far deleting is. `?subject=` opens a rule, with `days` it says what that would mean. POST sets
    (`do=set`) or clears (`do=clear`) one."""
    if request.method == "POST":
        return _change(request, organization)
    return _show(request, organization)


def _show(request: HttpRequest, organization: Organization, *, problem: WorkflowsError | None = None) -> HttpResponse:
    found = selectors.retention(organization)
    is_operator = access.is_operator(request.user)
    context: dict[str, Any] = {
        "found": found, "is_operator": is_operator,
        "rows": [_row(kept, found) for kept in found.rules],
        "announcement": found.announcement if is_operator else found.announcement_without_numbers,
        "stored_bytes": next(each for each in quotas.quotas(organization) if each.name == "storedBytes"),
        "problem": str(problem) if problem else "",
        "tables": bloat.table_sizes()[:SHOWN_TABLES] if is_operator else [],
    }  # fmt: skip
    given = request.POST if request.method == "POST" else request.GET
    if given.get("subject"):
        context |= _opened(request, organization, given, context["rows"])
    status = problem.status if problem else 200
    return render(request, "headrace/control/retention.html", context, status=status)


def _row(kept: Any, found: selectors.Retention) -> dict[str, Any]:
    """A rule in force, and who has set it."""
    name = kept.subject.name
    stored = {"this": found.own.get(name), "all": found.of_all.get(name)}
    return {
        "subject": kept.subject,
        "kept": kept,
        "rule": {"organization": stored["this"], "installation": stored["all"]}.get(kept.source),
        "oldest": found.oldest.get(name),
        "stored": stored,
    }


def _may(request: HttpRequest, organization: Organization, place: str) -> bool:
    """Whether the login changes rules there: of its organization with the right for it, of all as an operator."""
    if place == "this":
        return access.allows(request.user, CHANGE_ORGANIZATION, organization)
    return access.is_operator(request.user)


def _opened(request: HttpRequest, organization: Organization, given: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rule that is looked at: its form, and what the days that were written would mean."""
    row = next((each for each in rows if each["subject"].name == given["subject"]), None)
    if row is None:
        raise InvalidInput(f"subject: {given['subject'][:50]!r} is not kept by a rule.")
    places = [place for place in (("this", "all") if row["subject"].by_organization else ("all",))
              if _may(request, organization, place)]  # fmt: skip
    days, place = given.get("days", "").strip(), given.get("place") or (places[0] if places else "")
    opened: dict[str, Any] = {
        "opened": row, "days": days, "place": place,
        "places": [(each, PLACES[each], rule := row["stored"][each], rule.seen if rule else "") for each in places],
    }  # fmt: skip
    if days and request.method == "GET":
        try:
            whose = organization if place == "this" else None
            opened["trial"] = selectors.trial(whose, row["subject"].name, days)
        except InvalidInput as error:
            opened["problem"] = str(error)
    return opened


def _change(request: HttpRequest, organization: Organization) -> HttpResponse:
    given = request.POST
    subject, place, days = given.get("subject", ""), given.get("place", "this"), given.get("days", "").strip()
    try:
        whose = _whose(request, organization, place)
        by, seen = f"user {request.user.get_username()}", given.get("seen")
        if given.get("do") == "clear":
            if not rules.clear_rule(whose, subject, by=by, seen=seen):
                raise InvalidInput("There is no rule to take back there: nothing was changed.")
            said = f"The rule for {subject} is taken back: the one for all, the environment or the default holds again."
        elif given.get("do") == "set":
            if not days:
                raise InvalidInput("days: write a number of days, or forever.")
            rule = rules.set_rule(whose, subject, days, by=by, seen=seen)
            said = f"{rule}, for {PLACES[place]}. What may go sooner goes with the next pass."
        else:
            raise InvalidInput("do: set or clear.")
    except Forbidden:
        raise
    except WorkflowsError as error:
        return _show(request, organization, problem=error)
    if whose is None:
        audited.of_all(request)
    messages.success(request, said)
    return redirect(f"{reverse('headrace:retention')}?{urlencode({'subject': subject})}")


def _whose(request: HttpRequest, organization: Organization, place: str) -> Organization | None:
    """Whose rule it is; None for that of all. Raises InvalidInput, Forbidden."""
    if place not in PLACES:
        raise InvalidInput(f"place {place[:20]!r} is unknown; use this or all.")
    if place == "this":
        access.require(request.user, CHANGE_ORGANIZATION, organization)
        return organization
    if not access.is_operator(request.user):
        raise Forbidden("This rule holds for all organizations: an operator of the installation changes it.")
    return None
