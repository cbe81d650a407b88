"""Payloads with a mark, and where that stands in the database: for the tests of their encryption."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection

from tests.support.workers import await_end, await_that, publish
from workflows import services, this_process
from workflows.models import Organization, Run
from workflows.sealing import envelope
from workflows.sealing.envelope import Keys
from workflows.this_process import configuration as told

ECHO = {"id": "echo", "type": "data_transform", "config": {"expression": "{'again': input.word, 'n': 1}"}}
FAILS = {
    "id": "fails",
    "type": "data_transform",
    "config": {"expression": "{'no such word': input.word}[input.word]"},
    "retry": {"attempts": 1},
}


def send(org: Organization, name: str, **data: Any) -> None:
    services.send_events(org, {"name": name, "data": data})


def start(org: Organization, steps: list[dict[str, Any]], data: Any, **more: Any) -> uuid.UUID:
    return services.trigger(
        org, publish(org, steps, slug=more.pop("slug", f"f{uuid.uuid4().hex[:8]}"), **more), data
    ).run_ids[0]


def ended(org: Organization, steps: list[dict[str, Any]], data: Any, **more: Any) -> Any:
    """A run that has completed."""
    detail = await_end(org, start(org, steps, data, **more), 60)
    assert detail.run.status == "completed", detail.run.error
    return detail


def first_run(org: Organization, slug: str, **more: Any) -> Any:
    (run, *_) = await_that(lambda: list(Run.objects.filter(org_id=org.id, flow__slug=slug, **more)), what=slug)
    return await_end(org, run.id)


def places_of(text: str) -> set[str]:
    """The columns of the database, of all tables and types, in which the text stands. As bytes and in JSON, too."""
    found = set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns c"
            " WHERE table_schema = 'public' AND EXISTS (SELECT 1 FROM information_schema.tables t"
            " WHERE t.table_name = c.table_name AND t.table_schema = 'public' AND t.table_type = 'BASE TABLE')"
        )
        for table, column, kind in cursor.fetchall():
            value = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
            cursor.execute(f'SELECT 1 FROM "{table}" WHERE position(%s in {value}) > 0 LIMIT 1', [text])
            if cursor.fetchone():
                found.add(f"{table}.{column}")
    return found


def have(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on this process has these encryption keys, the newest first."""
    monkeypatch.setattr(envelope, "encryption_keys", lambda: names)
    this_process.forget(Keys)


def stored(table: str, column: str, **where: Any) -> list[str]:
    """What stands in the database, unopened."""
    condition = " AND ".join(f"{name} = %s" for name in where)
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{column}"::text FROM {table} WHERE {condition}', [*where.values()])
        return [text for (text,) in cursor.fetchall()]


def have_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process has the keys that it was given."""
    have(monkeypatch, *told.encryption_keys())
