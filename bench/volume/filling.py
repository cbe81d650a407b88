"""Copies of executed runs with all that belongs to them, made by SQL and spread over a month."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from bench.volume.templates import Template
from workflows.models import Run

AT_ONCE = 20_000
KEPT = {"expires_at", "wake_at", "deadline_at", "timeout_at", "remind_at", "snoozed_until", "auto_replay_at"}
"""Times that are not moved: nothing that is copied is due."""
UUID7 = (
    "(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7' || "
    "substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid"
)


class Span(NamedTuple):
    """How many days ago the copies were made: the newest and the oldest."""

    newest_days: float = 0
    oldest_days: float = 29


MONTH = Span()


class Copied(NamedTuple):
    """A table of which rows are copied with their run."""

    table: str
    where: str
    step: str
    """The column with the id of a step run; empty where there is none."""
    own: dict[str, str]
    """What the columns get that are not copied."""


NEW_ID = UUID7.format(at="g.at")
TABLES = (
    Copied("headrace_workflows_event", "t.id = %(event)s", "", {"id": "g.event"}),
    Copied(
        "headrace_workflows_run",
        "t.id = %(run)s",
        "",
        {"id": "g.run", "event_id": "CASE WHEN t.event_id IS NOT NULL THEN g.event END"},
    ),
    Copied("headrace_workflows_steprun", "t.run_id = %(run)s", "id", {"run_id": "g.run"}),
    Copied("headrace_workflows_attempt", "t.run_id = %(run)s", "step_run_id", {"id": NEW_ID, "run_id": "g.run"}),
    Copied("headrace_workflows_wait", "t.run_id = %(run)s", "step_run_id", {"run_id": "g.run"}),
    Copied(
        "headrace_dlq_deadletter",
        "t.run_id = %(run)s",
        "step_run_id",
        {"id": NEW_ID, "run_id": "g.run", "first_run_id": "g.run"},
    ),
)


def fill(templates: list[Template], runs: int, say: Callable[[int], None], span: Span = MONTH) -> None:
    """Insert `runs` copies in their shares, over the span; `say` gets how many there are after each part."""
    made = 0
    for template in templates:
        count = math.ceil(runs * template.share)
        for batch in _batches(count):
            _copy(template.run_id, batch, span, count)
            made += len(batch)
            say(made)
    with connection.cursor() as cursor:
        for copied in TABLES:
            cursor.execute(f"VACUUM (ANALYZE) {copied.table}")


def _batches(count: int) -> Iterator[range]:
    for start in range(1, count + 1, AT_ONCE):
        yield range(start, min(start + AT_ONCE, count + 1))


def _copy(run_id: UUID, batch: range, span: Span, count: int) -> None:
    newest, oldest = (dt.timedelta(days=days) for days in span)
    run = Run.objects.values("created_at", "event_id").get(id=run_id)
    parameters: dict[str, Any] = {
        "run": run_id,
        "event": run["event_id"],
        "created": run["created_at"],
        "first": batch.start,
        "last": batch.stop - 1,
        "apart": (oldest - newest) / count,
        "newest": newest,
    }
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS seed_runs, seed_steps")
        cursor.execute(
            "CREATE TEMP TABLE seed_runs AS SELECT n, at, at - %(created)s AS later, "
            f"{UUID7.format(at='at')} AS run, {UUID7.format(at='at')} AS event "
            "FROM (SELECT n, %(created)s - %(newest)s - n * %(apart)s AS at "
            "FROM generate_series(%(first)s::int, %(last)s::int) n) x",
            parameters,
        )
        cursor.execute(
            f"CREATE TEMP TABLE seed_steps AS SELECT g.n, s.id AS old, {UUID7.format(at='g.at')} AS new "
            "FROM seed_runs g CROSS JOIN headrace_workflows_steprun s WHERE s.run_id = %(run)s",
            parameters,
        )
        cursor.execute("ANALYZE seed_runs; ANALYZE seed_steps")
        for copied in TABLES:
            cursor.execute(_insert(copied), parameters)


def _insert(copied: Copied) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = %s AND is_generated = 'NEVER'",
            [copied.table],
        )
        columns: dict[str, str] = dict(cursor.fetchall())
    own = {**copied.own, **({copied.step: "m.new"} if copied.step else {})}
    values = []
    for column, kind in columns.items():
        moved = kind == "timestamp with time zone" and column not in KEPT
        values.append(own.get(column) or (f't."{column}" + g.later' if moved else f't."{column}"'))
    names = ", ".join(map(connection.ops.quote_name, columns))
    steps = f"JOIN seed_steps m ON m.n = g.n AND m.old = t.{copied.step}" if copied.step else ""
    return (
        f"INSERT INTO {copied.table} ({names}) SELECT {', '.join(values)} "
        f"FROM {copied.table} t CROSS JOIN seed_runs g {steps} WHERE {copied.where}"
    )
