"""What is asked again and again reads the open steps by their partial indexes, never all steps that ever were."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from bench.volume import filling
from dlq.alerting import metrics
from tests.support.by_hand import fail, start
from throttling.policy import MAX_HEAD_START_S
from workflows.engine.state import database
from workflows.models import Organization
from workflows.models.run import first_id

COPIES = 3_000
STEPS = "headrace_workflows_steprun"
OF_METRICS = ("queue_depth", "priority_target", "zombies")
PARTIAL = {"step_run_ready", "step_run_parked", "step_run_running", "step_run_wake", "step_run_unmarked"}


@pytest.fixture
def copied(org: Organization, published: list[Any]) -> UUID:
    """A run that failed with a dead letter: the tables have many copies of it while a plan is asked for."""
    run_id = start(org, [{"id": "a", "type": "noop"}])
    fail(run_id)
    return run_id


def plan_of(sql: str, parameters: dict[str, Any], copied: UUID) -> str:
    """The plan under the settings that the engine's connections have, on tables with a past."""
    settings = re.findall(r"-c (\w+)=(\w+)", database._SETTINGS)
    with transaction.atomic(), connection.cursor() as cursor:
        filling._copy(copied, range(1, COPIES + 1), filling.MONTH, COPIES)
        cursor.execute("ANALYZE headrace_workflows_run, headrace_workflows_steprun, headrace_dlq_deadletter")
        for name, value in settings:
            cursor.execute(f"SET LOCAL {name} = {value}")
        cursor.execute(f"EXPLAIN {sql}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        transaction.set_rollback(True)
    return plan


def refuse_whole_reads(plan: str) -> None:
    assert f"Seq Scan on {STEPS}" not in plan, plan
    assert "Bitmap" not in plan, plan
    read = set(re.findall(rf"Index (?:Only )?Scan (?:Backward )?using (\w+) on {STEPS}", plan))
    assert read & PARTIAL, plan
    assert "step_run_identity" not in read, plan


@pytest.mark.parametrize("name", ["close_orphan_steps", "rescue_unmarked"])
def test_a_sweep_looks_at_open_steps_only(copied: UUID, name: str) -> None:
    refuse_whole_reads(plan_of(database.statement(name), {"batch": 100}, copied))


def test_what_events_are_needed_for_is_asked_of_open_steps_only(org: Organization, copied: UUID) -> None:
    refuse_whole_reads(plan_of(database.statement("event_needs"), {"org": org.id}, copied))


def plan_of_metric(metric: str, copied: UUID) -> str:
    now = timezone.now()
    since = now - dt.timedelta(minutes=5)
    parameters = {
        "now": now, "since": since, "first": first_id(since.timestamp()), "window_s": 300.0, "least": 1, "alerting": ["auth"],
        "lost_s": 5.0, "levels_from": [-MAX_HEAD_START_S, 0], "targets_s": [10.0, 5.0],
    }  # fmt: skip
    return plan_of(metrics.statement(metric), parameters, copied)


@pytest.mark.parametrize("metric", OF_METRICS)
def test_a_metric_looks_at_open_steps_only(copied: UUID, metric: str) -> None:
    refuse_whole_reads(plan_of_metric(metric, copied))


@pytest.mark.parametrize(
    ("metric", "index"),
    [
        *((each, "run_ended") for each in ("failure_rate", "processing_time", "throughput")),
        *((each, "dead_letter_by_time") for each in ("dead_letters", "auth_or_configuration")),
    ],
)
def test_a_metric_of_what_has_ended_reads_its_window_organization_by_organization(
    copied: UUID, metric: str, index: str
) -> None:
    plan = plan_of_metric(metric, copied)
    assert re.search(rf"using {index} on .*\n\s+Index Cond: .*org_id = o\.id.*(ended|failed)_at >", plan), plan
