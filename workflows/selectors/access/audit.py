"""The audit log, newest first, page by page."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from workflows.edge import values
from workflows.models import AuditEntry, Organization

ORDER = "audit"


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """What is wanted; empty: everything. `verb` may end with `*`."""

    actor: str = ""
    actor_kind: str = ""
    verb: str = ""
    object_kind: str = ""
    object_id: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """Some entries, and where the next ones begin."""

    entries: list[AuditEntry]
    next_cursor: str


def entries(organization: Organization | None, where: AuditFilter, *, limit: int = 50, cursor: str = "") -> AuditPage:
    """The entries of an organization; of None those of no single one. Raises InvalidInput."""
    values.check_limit(limit)
    found = AuditEntry.objects.filter(org_id=organization.id if organization else None)
    exact = {"actor": where.actor, "actor_kind": where.actor_kind, "object_kind": where.object_kind,
             "object_id": where.object_id}  # fmt: skip
    values.refuse_unstorable(**exact, verb=where.verb)
    found = found.filter(**{name: text for name, text in exact.items() if text})
    if where.verb.endswith("*"):
        found = found.filter(verb__startswith=where.verb[:-1])
    elif where.verb:
        found = found.filter(verb=where.verb)
    if where.since is not None:
        found = found.filter(at__gte=values.moment(where.since, "since"))
    if where.until is not None:
        found = found.filter(at__lt=values.moment(where.until, "until"))
    if cursor:
        place: dict[str, UUID] = values.decode_cursor(cursor, ORDER, {"id": UUID})
        found = found.filter(id__lt=place["id"])
    rows = list(found.order_by("-id")[: limit + 1])
    more = values.encode_cursor(ORDER, {"id": rows[limit - 1].id}) if len(rows) > limit else ""
    return AuditPage(entries=rows[:limit], next_cursor=more)
