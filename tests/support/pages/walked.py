"""The pages of the dashboard, as the browser walks through them, and the addresses that are no page."""

from __future__ import annotations

from typing import NamedTuple


class Shown(NamedTuple):
    """A page of the walk: the name of its address, its path (with {places} of the walk's world), and what is opened on
    it by a click (selectors) before it is looked at."""

    page: str
    path: str
    opens: tuple[str, ...] = ()


_TABS = tuple(f"[role=tab]:text-is('{name}')" for name in ("Graph", "History", "Steps"))
PAGES: dict[str, Shown] = {
    "login": Shown("login", "/login/"),
    "overview": Shown("headrace:overview", "/overview/"),
    "overview-runs": Shown("headrace:runs_behind", "/overview/runs/?kind=failed&since={hour_ago}&until={hour_on}"),
    "runs": Shown("headrace:runs", "/"),
    "runs-filters": Shown("headrace:runs", "/?status=failed&tag=nightly", ("#more-filters > summary",)),
    "runs-search": Shown("headrace:runs", "/?text=division&duration=>1ms"),
    "runs-none": Shown("headrace:runs", "/?flow=none"),
    "runs-matching": Shown("headrace:matching_runs", "/runs/matching/replay/?status=failed"),
    "operations": Shown("headrace:operations", "/operations/"),
    "operation": Shown("headrace:operation", "/operations/{operation}/"),
    "run-failed": Shown("headrace:run", "/runs/{failed}/", _TABS),
    "run-waits": Shown("headrace:run", "/runs/{waits}/"),
    "run-limited": Shown("headrace:run", "/runs/{limited}/"),
    "compare": Shown("headrace:compare", "/runs/{failed}/compare/"),
    "repeat": Shown("headrace:repeat", "/runs/{failed}/repeat/?step=divides"),
    "flows": Shown("headrace:flows", "/flows/"),
    "flow": Shown("headrace:flow", "/flows/checkout/"),
    "flow-definition": Shown("headrace:flow", "/flows/checkout/?tab=definition"),
    "flow-versions": Shown("headrace:flow", "/flows/checkout/?tab=versions"),
    "flow-triggers": Shown("headrace:flow", "/flows/checkout/?tab=triggers"),
    "flow-limits": Shown("headrace:flow", "/flows/transfer/?tab=limits"),
    "flow-edit": Shown("headrace:edit_flow", "/flows/checkout/edit/"),
    "flow-new": Shown("headrace:new_flow", "/flows/~new/"),
    "events": Shown("headrace:events", "/events/"),
    "event": Shown("headrace:event", "/events/{event}/"),
    "event-unheard": Shown("headrace:event", "/events/{unheard}/"),
    "schemas": Shown("headrace:event_schemas", "/events/schemas/?name=order/strict"),
    "schedules": Shown("headrace:schedules", "/schedules/"),
    "webhooks": Shown("headrace:webhooks", "/webhooks/"),
    "approvals": Shown("headrace:approvals", "/approvals/"),
    "approval": Shown("headrace:approval", "/approvals/{approval}/"),
    "limits": Shown("headrace:limits", "/limits/"),
    "limit": Shown("headrace:limit", "{limit}"),
    "limit-change": Shown("headrace:change_limit", "/limits/change/?scope=flow&flow=transfer"),
    "limit-history": Shown("headrace:limit_history", "/limits/history/"),
    "workers": Shown("headrace:workers", "/workers/"),
    "keys": Shown("headrace:keys", "/keys/"),
    "secrets": Shown("headrace:secrets", "/secrets/"),
    "retention": Shown("headrace:retention", "/retention/"),
    "audit": Shown("headrace:audit", "/audit/"),
    "organization": Shown("headrace:organization", "/organization/"),
    "test-flow": Shown("headrace:test", "/test/?flow=walked", ("summary:text-is('Options')",)),
    "test-events": Shown("headrace:test_events", "/test/events/", ("[role=tab]:text-is('Command line')",)),
    "test-sent": Shown("headrace:sent_events", "/test/events/sent/?ids={event},{unheard}"),
    "design": Shown("headrace:design", "/design/"),
    "causes": Shown("headrace-letters:causes", "/letters/"),
    "cause": Shown("headrace-letters:cause", "/letters/causes/{cause}/"),
    "letters": Shown("headrace-letters:letters", "/letters/all/"),
    "letters-none": Shown("headrace-letters:letters", "/letters/all/?search=nothing+such"),
    "letter": Shown("headrace-letters:letter", "/letters/{letter}/", ("summary:has-text('Edit the payload')",)),
    "letters-bulk": Shown("headrace-letters:bulk", "/letters/bulk/?action=resume&group={cause}"),
    "letters-operations": Shown("headrace-letters:operations", "/letters/bulk/all/"),
    "letters-operation": Shown("headrace-letters:operation", "/letters/bulk/{letters_operation}/"),
    "alerts": Shown("headrace-alerts:alerts", "/alerts/"),
}
"""By the name of its picture."""

ACTION = "It takes a POST, and leads back to a page."
PART = "A part of a page, which htmx or a script asks for."
FILE = "A file."
NO_PAGES: dict[str, str] = {
    **dict.fromkeys(
        (
            "headrace:chosen_runs", "headrace:save_view", "headrace:delete_view", "headrace:turn_operation",
            "headrace:cancel", "headrace:replay", "headrace:delete_schema", "headrace:resend_event",
            "headrace:switch_trigger", "headrace:act_on_flow", "headrace:remove_limit", "headrace:turn_queue",
            "headrace:turn_organization", "headrace:put_member", "headrace:remove_member", "headrace:switch",
            "headrace:rotate_key", "headrace:rename_key", "headrace:revoke_key", "headrace:delete_secret",
            "headrace:logout", "headrace-letters:assign", "headrace-letters:snooze", "headrace-letters:automatic",
            "headrace-letters:comment", "headrace-letters:chosen", "headrace-letters:start", "headrace-letters:turn",
            "headrace-letters:repair", "headrace-letters:ignore", "headrace-letters:reopen", "headrace-alerts:rule",
            "headrace-alerts:try_configured", "headrace-alerts:channel",
        ),
        ACTION,
    ),
    **dict.fromkeys(
        (
            "headrace:live_rows", "headrace:run_counts", "headrace:run_state", "headrace:run_parts", "headrace:run_history",
            "headrace:step_body", "headrace:step_limits", "headrace:step_items", "headrace:overview_now",
            "headrace:new_events", "headrace-letters:trial", "headrace:run_input", "headrace:run_output",
        ),
        PART,
    ),
    **dict.fromkeys(
        (
            "headrace:export_runs", "headrace:export_audit", "headrace:step_download", "headrace:run_download", "headrace:event_json",
            "headrace-letters:download",
        ),
        FILE,
    ),
}  # fmt: skip
"""By the name of the address: why it is no page of its own."""
