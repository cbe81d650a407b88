"""The audit log: who changed what, newest first, with filters, and as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from workflows.dashboard import files
from workflows.dashboard.access import page
from workflows.dashboard.control import objects
from workflows.edge import access
from workflows.edge.access import CHANGE_ORGANIZATION
from workflows.edge.values import MAX_PAGE, moment
from workflows.errors import Forbidden, InvalidInput, WorkflowsError
from workflows.models import AuditEntry, Organization
from workflows.presenters import access as presenters
from workflows.presenters import redaction
from workflows.selectors.access import audit as selectors

SHOWN = 50
FILTERS = ("actor", "by", "verb", "kind", "object", "since", "until")
MAX_TEXT = 200
FIELDS = (
    "id", "at", "actorKind", "actor", "verb", "objectKind", "objectId", "details", "requestId", "origin",
)  # fmt: skip
OF_NONE = "none"
"""`?of=none`: what belongs to no single organization, such as logins; for operators of the installation."""


@page(CHANGE_ORGANIZATION)
@require_GET
def audit(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Who changed what, page by page; `?of=none`, for operators: what belongs to no organization."""
    chosen = _chosen(request.GET)
    whose = _whose(request, organization)
    context: dict[str, Any] = {
        "chosen": chosen, "of_none": whose is None, "is_operator": access.is_operator(request.user),
        "query": urlencode(_query(chosen, whose)), "actors": AuditEntry.Actor.choices,
    }  # fmt: skip
    try:
        found = selectors.entries(whose, _filter(chosen), limit=SHOWN, cursor=request.GET.get("cursor", ""))
    except WorkflowsError as error:
        context["problem"] = str(error)
        return render(request, "headrace/control/audit.html", context, status=error.status)
    addresses = objects.addresses(organization, found.entries) if whose is not None else {}
    context |= {
        "rows": [_row(entry, addresses.get(entry.id, "")) for entry in found.entries],
        "following": found.next_cursor, "searched_to": found.searched_to, "is_first": not request.GET.get("cursor"),
    }  # fmt: skip
    return render(request, "headrace/control/audit.html", context)


def _row(entry: AuditEntry, address: str) -> dict[str, Any]:
    """An entry; what was before and after apart from what was asked for."""
    given = {name: value for name, value in entry.details.items() if name not in {"before", "after"}}
    return {
        "entry": entry, "address": address, "given": given, "before": entry.details.get("before"),
        "after": entry.details.get("after"),
    }  # fmt: skip


def _whose(request: HttpRequest, organization: Organization) -> Organization | None:
    if request.GET.get("of", "") != OF_NONE:
        return organization
    if not access.is_operator(request.user):
        raise Forbidden("What belongs to no organization is shown to operators of the installation.")
    return None


def _chosen(given: Mapping[str, str]) -> dict[str, str]:
    """The filters that an address has."""
    return {name: text[:MAX_TEXT] for name in FILTERS if (text := given.get(name, "").strip())}


def _query(chosen: Mapping[str, str], whose: Organization | None) -> dict[str, str]:
    return {**chosen, **({"of": OF_NONE} if whose is None else {})}


def _filter(chosen: Mapping[str, str]) -> selectors.AuditFilter:
    """The filters as the selector has them. Raises InvalidInput."""
    by = chosen.get("by", "")
    if by and by not in AuditEntry.Actor.values:
        raise InvalidInput(f"by {by[:20]!r} is unknown; use {', '.join(AuditEntry.Actor.values)}.")
    return selectors.AuditFilter(
        actor=chosen.get("actor", ""),
        actor_kind=by,
        verb=chosen.get("verb", ""),
        object_kind=chosen.get("kind", ""),
        object_id=chosen.get("object", ""),
        since=moment(chosen["since"], "since") if "since" in chosen else None,
        until=moment(chosen["until"], "until") if "until" in chosen else None,
    )


@page(CHANGE_ORGANIZATION)
@require_GET
def export(request: HttpRequest, organization: Organization, kind: str) -> HttpResponseBase:
    """The entries that match, newest first, at most files.MOST of them."""
    files.check_kind(kind)
    whose, where = _whose(request, organization), _filter(_chosen(request.GET))

    def read(cursor: str) -> tuple[list[AuditEntry], str]:
        found = selectors.entries(whose, where, limit=MAX_PAGE, cursor=cursor)
        return found.entries, found.next_cursor

    pages = (_rows(whose, entries) for entries in files.bounded(read(""), read))
    return files.download("audit", kind, FIELDS, pages)


def _rows(whose: Organization | None, entries: Sequence[AuditEntry]) -> files.Rows:
    rows = [presenters.entry_out(entry) for entry in entries]
    return redaction.answer(whose.id, rows) if whose is not None else rows
