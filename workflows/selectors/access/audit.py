"""The audit log, newest first, page by page. Its index is by organization and time; everything else is searched."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, replace
from uuid import UUID

from django.db.models import QuerySet

from workflows.edge import values
from workflows.models import AuditEntry, Organization
from workflows.models.run import first_id

ORDER = "audit"
MAX_READ = 10_000
MAX_S = 0.150
AT_ONCE = 2_000
SLACK = dt.timedelta(seconds=2)
"""An entry's id is made beside its time."""


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

    def checked(self) -> AuditFilter:
        """The filter with aware times. Raises InvalidInput."""
        values.refuse_unstorable(**self.texts(), verb=self.verb)
        since = values.moment(self.since, "since") if self.since is not None else None
        until = values.moment(self.until, "until") if self.until is not None else None
        return replace(self, since=since, until=until)

    def texts(self) -> dict[str, str]:
        """What is looked for as it is, by column."""
        return {"actor": self.actor, "actor_kind": self.actor_kind, "object_kind": self.object_kind,
                "object_id": self.object_id}  # fmt: skip

    @property
    def is_search(self) -> bool:
        """Whether more than the time is wanted."""
        return bool(self.verb or any(self.texts().values()))

    def narrow(self, found: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Those of some entries that match."""
        found = found.filter(**{name: text for name, text in self.texts().items() if text})
        if self.verb.endswith("*"):
            found = found.filter(verb__startswith=self.verb[:-1])
        elif self.verb:
            found = found.filter(verb=self.verb)
        if self.since is not None:
            found = found.filter(at__gte=self.since)
        return found.filter(at__lt=self.until) if self.until is not None else found

    def within(self, found: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """The entries of about the wanted time, by the index."""
        if self.since is not None:
            found = found.filter(id__gte=_id_at(self.since - SLACK))
        return found.filter(id__lt=_id_at(self.until + SLACK)) if self.until is not None else found


def _id_at(at: dt.datetime) -> UUID:
    return first_id(max(0.0, at.timestamp()))


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """Some entries, and where the next ones begin. `searched_to`: how far back it came, of a search that was stopped
    before it had a page."""

    entries: list[AuditEntry]
    next_cursor: str
    searched_to: dt.datetime | None = None


def entries(organization: Organization | None, where: AuditFilter, *, limit: int = 50, cursor: str = "") -> AuditPage:
    """The entries of an organization; of None those of no single one. Raises InvalidInput."""
    values.check_limit(limit)
    where = where.checked()
    base = where.within(AuditEntry.objects.filter(org_id=organization.id if organization else None)).order_by("-id")
    last: UUID | None = values.decode_cursor(cursor, ORDER, {"id": UUID})["id"] if cursor else None
    found: list[AuditEntry] = []
    read, until_s, is_whole = 0, time.monotonic() + MAX_S, False
    at_once = AT_ONCE if where.is_search else limit + 1
    while len(found) < limit and read < MAX_READ and (not read or time.monotonic() < until_s):
        rows = base if last is None else base.filter(id__lt=last)
        ids = list(rows.values_list("id", flat=True)[:at_once])
        if ids:
            found += where.narrow(rows.filter(id__gte=ids[-1]))[: limit - len(found)]
        is_full = len(found) >= limit
        last = found[-1].id if is_full else ids[-1] if ids else last
        read += len(ids)
        is_whole = len(ids) < at_once and (not is_full or last == ids[-1])
        if is_whole:
            break
    more = values.encode_cursor(ORDER, {"id": last}) if last is not None and not is_whole else ""
    return AuditPage(
        entries=found, next_cursor=more, searched_to=_made_at(last) if more and len(found) < limit else None
    )


def _made_at(entry_id: UUID | None) -> dt.datetime | None:
    """The time in an id."""
    return None if entry_id is None else dt.datetime.fromtimestamp((entry_id.int >> 80) / 1000, dt.UTC)
