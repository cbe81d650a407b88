"""Poisoned rows: Postgres refuses every change of them, as it does with a row that an item's own data has spoilt."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection, transaction

from workflows.engine.state import flow_cache
from workflows.models import FlowVersion


class Panic(BaseException):
    """What `except Exception` does not catch, as the panics of extension modules."""


ERRORS = (RuntimeError, MemoryError, Panic, SystemExit, KeyboardInterrupt, GeneratorExit)


@contextlib.contextmanager
def poisoned(table: str, column: str, *values: UUID) -> Iterator[None]:
    """Within, the rows of `table` with these values in `column` can be neither changed nor deleted."""
    name = f"poison_{uuid.uuid4().hex[:12]}"
    listed = ", ".join(f"'{value}'" for value in values)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'this row is poisoned'; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW"
            f" WHEN (OLD.{column} IN ({listed})) EXECUTE FUNCTION {name}()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name} ON {table}")
            cursor.execute(f"DROP FUNCTION {name}")


@contextlib.contextmanager
def refusing(table: str, condition: str) -> Iterator[None]:
    """Within, Postgres refuses every insert into `table` with this condition, such as `deadlock_detected`."""
    name = f"refuse_{uuid.uuid4().hex[:12]}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'refused for a test' USING ERRCODE = '{condition}'; END $$"
        )
        cursor.execute(f"CREATE TRIGGER {name} BEFORE INSERT ON {table} EXECUTE FUNCTION {name}()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name} ON {table}")
            cursor.execute(f"DROP FUNCTION {name}")


@contextlib.contextmanager
def failing_at_first(table: str, column: str, condition: str, times: int) -> Iterator[None]:
    """Within, the first so many changes of the column fail with this condition, whoever makes them."""
    name = f"fail_{uuid.uuid4().hex[:12]}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SEQUENCE {name}")
        cursor.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('{name}') <= {times} THEN RAISE EXCEPTION 'failed for a test' USING ERRCODE = '{condition}';"
            " END IF; RETURN NEW; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW"
            f" WHEN (NEW.{column} IS DISTINCT FROM OLD.{column}) EXECUTE FUNCTION {name}()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name} ON {table}")
            cursor.execute(f"DROP FUNCTION {name}")
            cursor.execute(f"DROP SEQUENCE {name}")


def spoil(version_id: UUID, definition: dict[str, Any]) -> None:
    """Change a published version, as only a fault (or an older release) can: it is immutable."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE headrace_workflows_flowversion DISABLE TRIGGER USER")
        FlowVersion.objects.filter(id=version_id).update(definition=definition)
        cursor.execute("ALTER TABLE headrace_workflows_flowversion ENABLE TRIGGER USER")
    flow_cache.forget()


def doctor() -> dict[str, Any]:
    """What `doctor --json` says now."""
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def told_of(sweep: str) -> dict[str, Any]:
    """What doctor says of the sweep; empty where that is nothing."""
    return next((each for each in doctor().get("sweeps", ()) if each["sweep"] == sweep), {})
