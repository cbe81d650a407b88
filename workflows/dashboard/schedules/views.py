"""The schedules with their last and next fire times, and the webhooks with their addresses."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workflows import selectors
from workflows.dashboard.access import page
from workflows.dashboard.flows import rows
from workflows.edge import access
from workflows.edge.access import CHANGE_FLOWS
from workflows.models import Organization
from workflows.selectors.pages import schedules as page_selectors
from workflows.services import pauses

LATE_S = 60.0
SHOWN_FIRES = 2


@page()
@require_GET
def schedules(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The crons of the flows in use; `?q=`: of those whose name has this in it."""
    search = request.GET.get("q", "").strip()
    found = page_selectors.crons(organization, search)
    shown = found[: page_selectors.SHOWN]
    fires, now = page_selectors.fires(shown), timezone.now()
    stops = {each["flow"]: each for each in pauses.stopped(organization) if each["flow"]}
    listed: list[dict[str, Any]] = [
        {
            **rows.trigger_row(each, in_clear=False, fires=SHOWN_FIRES),
            "flow": each.flow,
            "flow_state": rows.state_of(each.flow, stops.get(each.flow.slug)),
            "fires": fires[each.id],
            "is_late": bool(
                each.enabled and each.next_fire_at and (now - each.next_fire_at).total_seconds() > LATE_S
            ),
        }
        for each in shown
    ]  # fmt: skip
    context = {
        "rows": listed, "search": search, "has_more": len(found) > len(shown), "has_leader": selectors.has_leader(),
        "fires_shown": page_selectors.FIRES_SHOWN,
    }  # fmt: skip
    return render(request, "headrace/schedules/schedules.html", context)


@page()
@require_GET
def webhooks(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The webhooks of the flows in use; their addresses in clear for those who may change flows."""
    search = request.GET.get("q", "").strip()
    found = page_selectors.webhooks(organization, search)
    shown = found[: page_selectors.SHOWN]
    in_clear = access.allows(request.user, CHANGE_FLOWS, organization)
    listed = [{**rows.trigger_row(each, in_clear=in_clear), "flow": each.flow} for each in shown]
    last = page_selectors.last_events(organization, {row["event_name"] for row in listed})
    missing = page_selectors.missing_secrets(
        organization, {row["secret"] for row in listed if row["secret"] and row["signature"] != "none"}
    )  # fmt: skip
    for row in listed:
        row["last"] = last.get(row["event_name"])
        row["lacks_secret"] = row["secret"] in missing
    context = {"rows": listed, "search": search, "has_more": len(found) > len(shown), "in_clear": in_clear}
    return render(request, "headrace/schedules/webhooks.html", context)
