"""A database filled by SQL: copies of a run that was executed, and of one that waits."""

from __future__ import annotations

import time
from collections.abc import Mapping

from django.db import connection

from bench.drivers.site import Site
from workflows import services
from workflows.definitions.validate import parse
from workflows.models import Organization

AT_ONCE = 50_000
SLEEPS = {"flow": "sleeps", "steps": [{"id": "a", "type": "delay", "config": {"for": "300d"}}]}


def fill(site: Site, *, stored: int, waiting: int) -> dict[str, int]:
    """Make up what is missing of so many stored and so many waiting runs, and have the planner know of it.

    The stored ones belong to the organization that is measured, the waiting ones to another: the bench waits for the
    first one to have no live run.
    """
    run_id = services.trigger(site.organization, "one-effects").run_ids[0]
    site.await_idle()
    _copy(str(run_id), stored - _count("status = 'completed'"))
    others, _ = Organization.objects.get_or_create(slug="bench-others", defaults={"name": "Others"})
    services.apply_definition(others, parse(SLEEPS))
    sleeper = str(services.trigger(others, "sleeps").run_ids[0])
    while not _one("SELECT count(*) FROM headrace_workflows_steprun WHERE run_id = %s AND status = 'waiting'", sleeper):
        time.sleep(0.1)
    _copy(sleeper, waiting - _count("status IN ('queued', 'running')"))
    with connection.cursor() as cursor:
        cursor.execute(
            "VACUUM (ANALYZE) headrace_workflows_run, headrace_workflows_steprun, headrace_workflows_attempt"
        )
    return {"stored": _count("status = 'completed'"), "waiting": _count("status IN ('queued', 'running')")}


def _copy(run_id: str, count: int) -> None:
    """So many copies of a run with its step and attempt, with ids of their own, each a second older than the last."""
    for start in range(0, max(count, 0), AT_ONCE):
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS growth_ids")
            cursor.execute(
                "CREATE TEMP TABLE growth_ids AS SELECT n, headrace_uuid7() AS run, headrace_uuid7() AS step, "
                "headrace_uuid7() AS attempt FROM generate_series(%s::int, %s::int) n",
                [start + 1, min(start + AT_ONCE, count)],
            )
            back = {"created_at": "t.created_at - make_interval(secs => g.n)"}
            for table, own, whose in (
                ("headrace_workflows_run", {"id": "g.run", **back}, "id"),
                ("headrace_workflows_steprun", {"id": "g.step", "run_id": "g.run", **back}, "run_id"),
                (
                    "headrace_workflows_attempt",
                    {"id": "g.attempt", "step_run_id": "g.step", "run_id": "g.run"},
                    "run_id",
                ),
            ):
                cursor.execute(_insert(table, own, whose), [run_id])


def _insert(table: str, own: Mapping[str, str], whose: str) -> str:
    with connection.cursor() as cursor:
        columns = [each.name for each in connection.introspection.get_table_description(cursor, table)]
    values = [own.get(column, f't."{column}"') for column in columns]
    names = ", ".join(map(connection.ops.quote_name, columns))
    return (
        f"INSERT INTO {table} ({names}) "
        f"SELECT {', '.join(values)} FROM {table} t CROSS JOIN growth_ids g WHERE t.{whose} = %s"
    )


def _count(where: str) -> int:
    return int(_one(f"SELECT count(*) FROM headrace_workflows_run WHERE {where}"))


def _one(sql: str, *parameters: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.fetchone()[0])
