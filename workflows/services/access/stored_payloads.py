"""Rows with payloads as they are stored, page by page: of all organizations, or of one.

Of one organization, no payload of another is read. Steps, tries and items, which are many, are found by its runs, over
the indexes that go by run; other tables by the column of their organization. The keys of a page come first, and then
the payloads of these rows alone. What belongs to no organization is read with each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connection, models

from workflows.models import PrunedRun, Run
from workflows.models.payload_fields import PayloadField, PayloadTextField

BATCH = 200
RUNS_AT_ONCE = 50
Field = PayloadField | PayloadTextField
_OF_FAN_OUT = "(SELECT f.{} FROM headrace_workflows_fanout f WHERE f.step_run_id = t.container_id)"
_BY_RUN = "t.run_id = ANY (%(runs)s)"
_BY_RUNS = {
    "headrace_workflows_steprun": _BY_RUN,
    "headrace_workflows_attempt": _BY_RUN,
    "headrace_workflows_item": "t.container_id IN"
    " (SELECT f.step_run_id FROM headrace_workflows_fanout f WHERE f.run_id = ANY (%(runs)s))",
}
_OWNERS = {"headrace_workflows_item": _OF_FAN_OUT.format("org_id")}
_KINDS = {"headrace_workflows_item": _OF_FAN_OUT.format("kind"), "headrace_workflows_steprun": 't."type"'}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with columns that hold payloads."""

    model: type[models.Model]
    fields: tuple[Field, ...]
    keys: tuple[str, ...]
    owner: str
    """SQL for the organization of a row `t`."""
    of_org: str
    """SQL: whether a row `t` is read with the organization `org`."""

    @property
    def name(self) -> str:
        return self.model._meta.db_table


@dataclass(frozen=True, kw_only=True)
class StoredRow:
    """The key of a row, what its shape depends on, and its columns as they are stored."""

    key: tuple[Any, ...]
    facts: Mapping[str, Any]
    texts: tuple[str | None, ...]


def tables() -> Iterator[Table]:
    """All tables that hold payloads: those of models with such fields."""
    for model in apps.get_models():
        found = tuple(each for each in model._meta.concrete_fields if isinstance(each, PayloadField | PayloadTextField))
        if found:
            name = model._meta.db_table
            keys = tuple(str(each.column) for each in model._meta.pk_fields)
            owner, of_org = (_OWNERS[name], "") if name in _OWNERS else _owner_sql(model, found[0].owner)
            yield Table(model=model, fields=found, keys=keys, owner=owner, of_org=of_org)


def _owner_sql(model: type[models.Model], owner: str) -> tuple[str, str]:
    first, _, rest = owner.partition(".")
    column: Any = next(each for each in model._meta.concrete_fields if first in {each.name, each.column})
    if rest:
        other = column.related_model._meta
        of = f'o.{other.pk.column} FROM {other.db_table} o WHERE o."{rest}" = %(org)s'
        return (
            f'(SELECT o."{rest}" FROM {other.db_table} o WHERE o.{other.pk.column} = t."{column.column}")',
            f't."{column.column}" IN (SELECT {of})',
        )
    none = f' OR t."{first}" IS NULL' if column.null else ""
    return f't."{first}"', f't."{first}" = %(org)s{none}'


def pages(org_id: UUID | None) -> Iterator[tuple[Table, list[StoredRow]]]:
    """All rows with payloads of an organization and of none, or (None) of all."""
    every = list(tables())
    for table in every:
        if org_id is None:
            yield from _pages(table, "true", {})
        elif table.name not in _BY_RUNS:
            yield from _pages(table, table.of_org, {"org": org_id})
    for runs in _runs(org_id) if org_id is not None else ():
        for table in every:
            if table.name in _BY_RUNS:
                yield from _pages(table, _BY_RUNS[table.name], {"runs": runs})


def _runs(org_id: UUID) -> Iterator[list[UUID]]:
    """The runs of an organization, and those whose rest is still to be deleted: few, since that follows soon."""
    for model in (Run, PrunedRun):
        rows = model._default_manager.filter(org_id=org_id).order_by("pk").values_list("pk", flat=True)
        page = list(rows[:RUNS_AT_ONCE])
        while page:
            yield page
            page = list(rows.filter(pk__gt=page[-1])[:RUNS_AT_ONCE])


def _pages(table: Table, scope: str, parameters: Mapping[str, Any]) -> Iterator[tuple[Table, list[StoredRow]]]:
    last: tuple[Any, ...] | None = None
    while page := _page(table, scope, parameters, last):
        yield table, page
        if len(page) < BATCH:
            return
        last = page[-1].key


def _page(table: Table, scope: str, parameters: Mapping[str, Any], last: tuple[Any, ...] | None) -> list[StoredRow]:
    keys = ", ".join(f't."{key}"' for key in table.keys)
    texts = ", ".join(f't."{each.column}"::text' for each in table.fields)
    after = {f"after_{place}": value for place, value in enumerate(last or ())}
    later = f"AND ({keys}) > ({', '.join(f'%({name})s' for name in after)})" if after else ""
    same = " AND ".join(f't."{key}" = k."{key}"' for key in table.keys)
    sql = (
        f"WITH k AS MATERIALIZED (SELECT {keys} FROM {table.name} t WHERE ({scope}) {later} ORDER BY {keys}"
        f" LIMIT {BATCH})"
        f" SELECT {table.owner}, {_KINDS.get(table.name, 'NULL')}, {keys}, {texts} FROM k"
        f" JOIN {table.name} t ON {same} ORDER BY {keys}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, {**parameters, **after})
        rows = cursor.fetchall()
    number = len(table.keys)
    return [
        StoredRow(
            key=tuple(rest[:number]),
            facts={"org_id": org_id, "type": kind, "kind": kind},
            texts=tuple(rest[number:]),
        )
        for org_id, kind, *rest in rows
    ]
