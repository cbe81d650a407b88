"""The page of alerts: what fires, what fired, which rules look, and where messages go."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from dlq import selectors
from dlq.alerting import care, channels, texts
from dlq.alerting.care import Reach
from workflows.dashboard.access import page
from workflows.edge import access
from workflows.edge.access import CHANGE_ALERTS
from workflows.errors import WorkflowsError
from workflows.models import Organization

SHOWN = 50


def _reach(request: HttpRequest, organization: Organization) -> Reach:
    return Reach(organization=organization, is_operator=access.is_operator(request.user))


@page()
@require_GET
def alerts(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Alerts, rules and channels."""
    reach = _reach(request, organization)
    may = access.allows(request.user, CHANGE_ALERTS, organization)
    found = selectors.alerts(organization, limit=SHOWN)
    listed = care.rules(organization)
    listed_channels = care.channels_of(reach) if may else []
    rules = [
        {
            "rule": each,
            "threshold": texts.value_of(each.metric, each.threshold),
            "mine": may and (reach.is_operator or each.org_id == organization.id),
        }
        for each in listed[: care.MOST_LISTED]
    ]
    context = {
        "firing": [each for each in found if each.recovered_at is None and each.rule_id is not None],
        "past": [each for each in found if each.recovered_at is not None or each.rule_id is None],
        "rules": rules,
        "may": may,
        "channels": listed_channels[: care.MOST_LISTED],
        "is_cut": max(len(listed), len(listed_channels)) > care.MOST_LISTED,
        "configured": channels.configured() if may and reach.is_operator else [],
        "undelivered": care.notifications(organization) if may else [],
    }
    return render(request, "headrace/alerts/alerts.html", context)


def _done(request: HttpRequest, act: Callable[[], str]) -> HttpResponse:
    try:
        messages.success(request, act())
    except WorkflowsError as error:
        if error.status == 404:
            raise
        messages.error(request, str(error))
    return redirect("headrace-alerts:alerts")


@page(CHANGE_ALERTS)
@require_POST
def rule(request: HttpRequest, organization: Organization, name: str, verb: str) -> HttpResponse:
    """Switch a rule on or off."""
    if verb not in {"on", "off"}:
        raise Http404
    reach = _reach(request, organization)

    def act() -> str:
        row = care.switch_rule(reach, name, on=verb == "on")
        return f"The rule {row.name} is {verb}."

    return _done(request, act)


@page(CHANGE_ALERTS)
@require_POST
def channel(request: HttpRequest, organization: Organization, channel_id: int, verb: str) -> HttpResponse:
    """Switch a channel on or off, or try it."""
    if verb not in {"on", "off", "test"}:
        raise Http404
    reach, by = _reach(request, organization), request.user.get_username()

    def act() -> str:
        if verb == "test":
            return f"A test message was sent to {care.try_channel(reach, channel_id, by=by).name}."
        return f"The channel {care.switch_channel(reach, channel_id, on=verb == 'on').name} is {verb}."

    return _done(request, act)


@page(CHANGE_ALERTS)
@require_POST
def try_configured(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Try the addresses of the environment."""
    reach, by = _reach(request, organization), request.user.get_username()

    def act() -> str:
        care.try_configured(reach, by=by)
        return "A test message was sent to the addresses of HEADRACE_ALERT_URLS."

    return _done(request, act)
