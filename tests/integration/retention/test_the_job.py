"""The leader deletes by itself, at a pace; on a database that was in use before only after a week, which it announces."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from config.env import BASE_DIR
from tests.integration.api.test_api import Api
from tests.integration.retention.history import ended, prune
from tests.support.by_hand import start
from workflows import this_process
from workflows.engine.maintenance import periodic_jobs
from workflows.engine.retention import ages, catalogue, pacing, walking
from workflows.engine.retention.progress import state
from workflows.engine.retention.subjects import SUBJECTS
from workflows.models import AccessKey, Organization, RetentionState, Run, StepRun
from workflows.selectors.upkeep import bloat
from workflows.selectors.upkeep import retention as selectors
from workflows.this_process.configuration import ELSEWHERE

pytestmark = pytest.mark.usefixtures("published")


@pytest.fixture(autouse=True)
def as_it_was(live_db: None, org: Organization, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The state of the installation is put back; passes go over this test's organization only."""
    before = state()
    walk = walking.Walk

    def of_org(wanted: walking.Wanted, **more: Any) -> walking.Walk:
        return walk(walking.Wanted(org_ids=[org.id], dry=wanted.dry), **more)

    monkeypatch.setattr(pacing, "Walk", of_org)
    RetentionState.objects.filter(id=1).update(next_at=None, dry_until=None, announced_at=None, would_delete={})
    with this_process.replaced(pacing.Pruner, pacing.Pruner()):
        yield
    before.save()


def turns(number: int = 30) -> None:
    """Of a process that begins to lead."""
    with this_process.replaced(pacing.Pruner, pacing.Pruner()):
        for _ in range(number):
            pacing.prune_a_little()
            this_process.own(pacing.Pruner)._pace._allowed = 500  # as if time had passed


def test_the_job_is_one_of_the_leader_s() -> None:
    assert periodic_jobs.JOBS["retention"].work is pacing.prune_a_little


def test_a_pass_deletes_and_says_how_far_it_is(org: Organization) -> None:
    ids = [ended(org) for _ in range(3)]
    live = start(org, [{"id": "a", "type": "noop"}])
    turns()
    assert not Run.objects.filter(id__in=ids).exists()
    assert Run.objects.filter(id=live).exists()
    row = state()
    assert row.last_pass["headrace_workflows_run"] == 3
    assert row.deleted["headrace_workflows_steprun"] >= 3
    assert row.ended_at is not None
    assert row.next_at is not None
    assert row.next_at > timezone.now()
    kept = ended(org)
    turns()  # the next pass is not due
    assert Run.objects.filter(id=kept).exists()


def test_on_a_database_in_use_a_week_of_dry_runs_comes_first(org: Organization, api_key: str) -> None:
    run_id = ended(org)
    until = timezone.now() + dt.timedelta(days=7)
    RetentionState.objects.filter(id=1).update(dry_until=until)
    for _ in range(3):
        turns()
        RetentionState.objects.filter(id=1).update(next_at=None)
    assert Run.objects.filter(id=run_id).exists()
    row = state()
    assert (row.would_delete["completed"], row.announced_at is not None) == (1, True)
    told = selectors.announcement()
    assert "1 of completed" in told
    operator = AccessKey.issue(org, AccessKey.Kind.API, "op", operator=True)[1]
    answer = Api(operator).get("/organization/retention").json()
    assert (answer["announcement"], answer["wouldDelete"]["completed"]) == (told, 1)
    of_one = Api(api_key).get("/organization/retention").json()  # numbers of all organizations are not its business
    assert [of_one[name] for name in ("wouldDelete", "deleted", "held")] == [None] * 3
    assert of_one["lastPass"]["deleted"] is None
    assert "what has expired is deleted. Until then" in of_one["announcement"]
    out = io.StringIO()
    with pytest.raises(SystemExit):  # no worker answers
        call_command("doctor", stdout=out)
    assert told in " ".join(out.getvalue().split())
    RetentionState.objects.filter(id=1).update(dry_until=timezone.now() - dt.timedelta(seconds=1), next_at=None)
    turns()
    assert not Run.objects.filter(id=run_id).exists()
    assert selectors.announcement() == ""


def test_the_next_dry_run_is_never_later_than_the_first_deletion() -> None:
    until = timezone.now() + dt.timedelta(hours=3)
    RetentionState.objects.filter(id=1).update(dry_until=until)
    turns()
    assert state().next_at == until


def test_it_can_be_switched_off(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = ended(org)
    monkeypatch.setenv("HEADRACE_RETENTION", "0")
    turns()
    assert Run.objects.filter(id=run_id).exists()


def test_the_pace_is_kept_and_slower_while_steps_wait(org: Organization) -> None:
    StepRun.objects.filter(status="ready").update(ready_at=timezone.now() + dt.timedelta(minutes=5))  # of earlier tests
    clock = [100.0]
    pace = pacing.Pace(1_000)
    monotonic = time.monotonic
    try:
        time.monotonic = lambda: clock[0]
        pace = pacing.Pace(1_000)
        clock[0] += 0.5
        assert pace.allowed() == pytest.approx(500)
        pace.spend(700)
        assert pace.seconds_until() == pytest.approx(0.2)
        clock[0] += 100
        assert pace.allowed() == pytest.approx(1_000)  # nothing is saved up
        for _ in range(pacing.BACKLOG):
            start(org, [{"id": "a", "type": "noop"}])
        StepRun.objects.filter(org_id=org.id).update(ready_at=timezone.now() - dt.timedelta(seconds=5))
        pace.spend(1_000)
        clock[0] += 2
        pace.allowed()
        pace.spend(1_000)
        before = pace.allowed()
        clock[0] += 1
        assert pace.allowed() - before == pytest.approx(100)
    finally:
        time.monotonic = monotonic


def test_the_settings_of_a_project_may_say_the_same() -> None:
    keys = {subject.variable.removeprefix("HEADRACE_") for subject in SUBJECTS.values()}
    assert keys | {"RETENTION", "RETENTION_ROWS_PER_S"} <= ELSEWHERE


@pytest.mark.parametrize(
    "name", ["HEADRACE_RETENTION", "HEADRACE_RETENTION_ROWS_PER_S", "HEADRACE_RETENTION_LOGS_DAYS"]
)
def test_a_word_in_the_environment_that_can_t_be_read_ends_the_start(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "perhaps")
    with pytest.raises(Exception, match=name):
        pacing.check_environment()


# --- the catalogue and the sizes ------------------------------------------------------------------------------------

GROWS_BY_OTHERS = {"django_celery_beat", "auth", "contenttypes", "migrations", "django_tasks"}
"""Apps whose tables grow by what people make: permissions, logins, schedules."""


def test_the_catalogue_says_of_each_table_what_bounds_it() -> None:
    tables = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label not in GROWS_BY_OTHERS and model._meta.managed
    }
    assert tables - catalogue.CATALOGUE.keys() == set(), "say in engine/retention/catalogue.py what bounds them"
    assert catalogue.CATALOGUE.keys() - tables == set()
    assert catalogue.unknown_subjects() == set()
    aged = {table.name for table in ages.all_tables()}
    assert aged <= catalogue.CATALOGUE.keys()


def test_the_page_shows_the_catalogue() -> None:
    page = (BASE_DIR / "docs" / "howto" / "retention.md").read_text(encoding="utf-8")
    for name, words in catalogue.sentences().items():
        assert f"| {name if ':' in name else f'`{name}`'} | {words} |" in page


def test_doctor_has_the_sizes_of_the_tables(org: Organization) -> None:
    ended(org)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE headrace_workflows_steprun")
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    sizes = {size["table"]: size for size in answer["tables"]}
    assert sizes.keys() == catalogue.CATALOGUE.keys()
    steps = sizes["headrace_workflows_steprun"]
    assert steps["totalBytes"] >= steps["tableBytes"] + steps["indexBytes"] > 0
    assert steps["neededBytes"] > 0
    assert answer["bloat"] == []


def test_a_table_with_many_dead_rows_is_told() -> None:
    size = bloat.TableSize(
        table="t", live_rows=100_000, dead_rows=200_000, table_bytes=1, index_bytes=1, total_bytes=2, needed_bytes=1,
        vacuumed_at=None,
    )  # fmt: skip
    assert "200,000 of 300,000 rows are dead, last vacuumed never" in size.warning
    empty = bloat.TableSize(
        table="t", live_rows=1, dead_rows=0, table_bytes=2**30, index_bytes=1, total_bytes=2**30 + 1,
        needed_bytes=2**28, vacuumed_at=None,
    )  # fmt: skip
    assert "are empty" in empty.warning


def test_hot_tables_have_settings_of_their_own_for_autovacuum() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE array_to_string(reloptions, ',') LIKE '%autovacuum_vacuum_scale%'"
        )
        found = {name for (name,) in cursor.fetchall()}
    assert {f"headrace_workflows_{name}" for name in ("run", "steprun", "attempt", "event", "wait", "item")} <= found


def test_pages_of_expired_runs_are_read_by_an_index(org: Organization) -> None:
    ended(org)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("SET enable_sort = off")  # the page comes in the order of the index
        cursor.execute(
            "EXPLAIN SELECT id, ended_at FROM headrace_workflows_run WHERE org_id = %s AND status = 'completed'"
            " AND ended_at IS NOT NULL AND ended_at < now() AND ended_at >= '1970-01-01' ORDER BY ended_at, id LIMIT 9",
            [org.id],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
        cursor.execute("RESET enable_sort")
    assert "run_ended" in plan
    assert prune(org)[0]["headrace_workflows_run"] == 1
