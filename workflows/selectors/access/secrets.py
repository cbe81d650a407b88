"""The names of an organization's secrets: where each comes from, who uses it, and which are missing. Never a value."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from workflows.engine.state.secret_sources import Source, secrets_of
from workflows.models import Organization, Secret
from workflows.selectors.access.authors import Change, authors
from workflows.selectors.access.secret_names import NamedSecrets, named_secrets

MOST = 2_000
DATABASE: Final = "database"


@dataclass(frozen=True, kw_only=True)
class SecretRow:
    """A name. `source`: which source counts (None: no source has it); `also_in`: those that have it and do not count.

    `updated_at`, `by`: when the database's value was written last, and by whom, where the audit log still says so.
    `problem`: why it can't be used.
    """

    name: str
    source: Source | None
    also_in: list[Source]
    updated_at: dt.datetime | None
    by: str
    flows: list[str]
    problem: str

    @property
    def is_stored(self) -> bool:
        """Whether the database has it, so that it can be replaced and deleted here."""
        return self.source == DATABASE

    @property
    def seen(self) -> str:
        """What a form says of the value that its page has seen."""
        return self.updated_at.isoformat() if self.updated_at else ""


@dataclass(frozen=True, kw_only=True)
class SecretNames:
    """`rows`: the names that a source has; `missing`: those that flows use, and none has.

    `failed_sources`: why a source can't be read now, so that nobody knows what it has: nothing is missing then.
    """

    rows: list[SecretRow]
    missing: list[SecretRow]
    failed_sources: list[str]
    named: NamedSecrets


def secret_names(organization: Organization) -> SecretNames:
    """All names by which the organization's flows reach a secret, in their order."""
    stored = {
        row.name: row
        for row in Secret.objects.filter(organization=organization).defer("ciphertext").order_by("name")[:MOST]
    }
    is_cut = len(stored) == MOST  # others are stored, too: the values that are kept know of them
    values, _ = secrets_of(organization.id)
    sources: dict[str, list[Source]] = {
        name: [each for each in found if each != DATABASE or is_cut] for name, found in values.sources.items()
    }
    for name in stored:
        sources[name] = [DATABASE, *(each for each in sources.get(name, []) if each != DATABASE)]
    changes = [Change(mark=name, at=row.updated_at, objects=[name, str(row.id)]) for name, row in stored.items()]
    by = authors(organization, changes, ("secret",))
    named = named_secrets(organization)
    rows = []
    for name in sorted({*sources, *named.flows}):
        found, row = sources.get(name, []), stored.get(name)
        problem = values.unreadable.get(name, "") if found[:1] == values.sources.get(name, [])[:1] else ""
        rows.append(
            SecretRow(
                name=name, source=found[0] if found else None, also_in=found[1:],
                updated_at=row.updated_at if row else None, by=by.get(name, ""), flows=named.flows.get(name, []),
                problem=problem,
            )
        )  # fmt: skip
    missing = [] if values.failed_sources else [row for row in rows if row.source is None]
    return SecretNames(
        rows=[row for row in rows if row.source is not None], missing=missing, failed_sources=values.failed_sources,
        named=named,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LeftWithout:
    """The flows that ask for a secret, once the database has it no more and no other source is known to have it.

    `unread_sources`: why sources can't be read now, which may have it.
    """

    flows: list[str]
    unread_sources: list[str]

    @property
    def sentence(self) -> str:
        """What becomes of the flows; empty where there is none."""
        if not self.flows:
            return ""
        names = ", ".join(self.flows)
        if self.unread_sources:
            return f"{names} will ask for it in vain, unless a source has it that can't be read now. {self.why_unread}"
        return f"{names} will ask for it in vain."

    @property
    def why_unread(self) -> str:
        return " ".join(self.unread_sources)


def left_without(organization: Organization, name: str) -> LeftWithout:
    """Who would be left without a secret of the database: nobody where another source has it too."""
    values, _ = secrets_of(organization.id)
    if any(each != DATABASE for each in values.sources.get(name, [])):
        return LeftWithout(flows=[], unread_sources=[])
    flows = named_secrets(organization).flows.get(name, [])
    return LeftWithout(flows=list(flows), unread_sources=list(values.failed_sources))
