"""Turning the encryption of an organization's payloads on and off, and bringing what is stored already to that.

New rows are written so by every process within seconds; older ones by `rewrite`, page by page, each column of a row by
a compare-and-set: runs may be open. It may be ended at any moment, and called again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from workflows.engine.run_controls import idempotency
from workflows.models import Organization
from workflows.models.payload_fields import PayloadField, PayloadTextField, is_on_for_any
from workflows.sealing import envelope, shapes, switch
from workflows.sealing.envelope import MARKER, TEXT_MARKER
from workflows.services.access import stored_payloads
from workflows.services.access.stored_payloads import Field, StoredRow, Table

MOST_NAMED = 100
MOST_PASSES = 10
SETTLED_AFTER_S = switch.KNOWN_FOR_S + 1.0
"""After so long every process knows that an organization was switched; what a transaction that is open still then has
stored as before, a later pass of `rewrite` finds, or its next call."""


@dataclass(kw_only=True)
class Rewritten:
    """What became of stored payloads; `unreadable` names the first rows that no key opens, and their keys."""

    rows: int = 0
    changed: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    """How many values were changed in each column."""
    unreadable_count: int = 0
    unreadable: list[str] = field(default_factory=list)
    by_key: Counter[str] = field(default_factory=Counter)
    """How many columns of rows are sealed by each key, also in part, or have nothing sealed (the empty name)."""

    def refuse(self, place: str) -> None:
        self.unreadable_count += 1
        if len(self.unreadable) < MOST_NAMED:
            self.unreadable.append(place)


def switch_to(organization: Organization, *, on: bool) -> bool:
    """Have new payloads of an organization stored encrypted, or not. Returns whether that changed anything."""
    with transaction.atomic():
        if on:
            idempotency.hash_keys(organization.id)
        changed = Organization.objects.filter(id=organization.id, encrypts_payloads=not on).update(encrypts_payloads=on)
    organization.encrypts_payloads = on
    switch.forget()
    return bool(changed)


def wait_until_known() -> None:
    """Wait until every process knows that an organization was switched."""
    time.sleep(SETTLED_AFTER_S)


def rewrite(organization: Organization, tell: Callable[[Rewritten], None] = lambda _: None) -> Rewritten:
    """Bring all that is stored of an organization to what its switch says, with the newest key; and what belongs to
    none, which is sealed while any organization wants that. It goes over the tables until it finds nothing to change.
    """
    wants, any_wants = organization.encrypts_payloads, is_on_for_any()
    total = Rewritten()
    for _ in range(MOST_PASSES):
        done = _walk(organization.id, lambda owner, _: any_wants if owner is None else wants, tell, changes=True)
        total.changed += done.changed
        total.columns += done.columns
        total.rows, total.by_key = done.rows, done.by_key
        total.unreadable, total.unreadable_count = done.unreadable, done.unreadable_count
        if not done.changed:
            break
    return total


def rotate(tell: Callable[[Rewritten], None] = lambda _: None) -> Rewritten:
    """Write all that is sealed under an older key, of every organization and of none, with the newest one. What is in
    clear stays so."""
    newest = envelope.keys().current()[0].name
    return _walk(None, lambda _, text: bool(envelope.key_names(text) - {newest}) or None, tell, changes=True)


def count(organization: Organization | None = None) -> Rewritten:
    """How many payloads of an organization (None: of all) and of none are in clear, and under which keys. Reads all of
    these."""
    org_id = None if organization is None else organization.id
    return _walk(org_id, lambda *_: None, lambda _: None, changes=False)


# --- walking --------------------------------------------------------------------------------------------------------

Wanted = Callable[[UUID | None, str], bool | None]
"""By the organization and the stored text: whether it is to be sealed, or clear; None: it stays as it is."""


def _walk(org_id: UUID | None, wanted: Wanted, tell: Callable[[Rewritten], None], *, changes: bool) -> Rewritten:
    done = Rewritten()
    for table, page in stored_payloads.pages(org_id):
        _rewrite_page(table, page, wanted, done, changes=changes)
        tell(done)
    return done


def _rewrite_page(table: Table, page: Sequence[StoredRow], wanted: Wanted, done: Rewritten, *, changes: bool) -> None:
    done.rows += len(page)
    for row in page:
        for column, text in zip(table.fields, row.texts, strict=True):
            if not text:
                continue
            for name in envelope.key_names(text) or {""}:
                done.by_key[name] += 1
            try:
                new = _new_text(column, row.facts, text, wanted(row.facts["org_id"], text))
            except _Unreadable as error:
                done.refuse(f"{table.model._meta.verbose_name} {'/'.join(map(str, row.key))}.{column.name}: {error}")
                continue
            if changes and new is not None and _replace(table, column, row.key, text, new):
                done.changed += 1
                done.columns[f"{table.name}.{column.column}"] += 1


class _Unreadable(Exception):
    """No key opens it."""


def _new_text(column: Field, facts: Mapping[str, Any], text: str, is_wanted: bool | None) -> str | None:
    """What is to be stored instead; None where it is right as it is. Raises _Unreadable."""
    if isinstance(column, PayloadTextField):
        clear = envelope.open_text(text)
        if isinstance(clear, envelope.UnopenedText):
            raise _Unreadable(clear)
        if is_wanted is None:
            return None
        if is_wanted and envelope.key_names(text) == {envelope.keys().current()[0].name}:
            return None  # all of it, or what SQL has put behind the name of an error
        new = envelope.seal_text(clear) if is_wanted or TEXT_MARKER in clear else clear
    else:
        value = envelope.loads(text)
        for why in envelope.unopened(value):
            raise _Unreadable(why)
        if is_wanted is None or (is_wanted and value in ([], {}, "", None) and MARKER not in text):
            return None
        clear = json.dumps(value, ensure_ascii=False)
        new = json.dumps(sealed(column, facts, value), ensure_ascii=False) if is_wanted or MARKER in clear else clear
        if json.loads(envelope.form(text)) == json.loads(envelope.form(new)):
            return None
    return None if envelope.form(text) == envelope.form(new) else new


def sealed(column: PayloadField, facts: Mapping[str, Any], value: Any) -> Any:
    """The value of a column as it is stored where it is sealed. `facts`: the columns that this depends on."""
    if column.model._meta.db_table == "headrace_workflows_item" and column.name == "value":
        return shapes.item(value, is_part=facts.get("kind") == "batch", owner=facts["org_id"])
    return column.sealed(facts, value)


def _replace(table: Table, column: Field, key: tuple[Any, ...], old: str, new: str) -> bool:
    """Where the column is still as it was read. Else a later pass, or the next call, looks at it again: what was added
    to it meanwhile is right, and the rest may not be."""
    where = " AND ".join(f'"{name}" = %s' for name in table.keys)
    kind = "jsonb" if isinstance(column, PayloadField) else "text"
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE {table.name} SET "{column.column}" = %s::{kind} WHERE {where} AND "{column.column}" = %s::{kind}',
            [new, *key, old],
        )
        return bool(cursor.rowcount == 1)
