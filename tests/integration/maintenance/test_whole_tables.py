"""What is asked again and again reads the open steps by their partial indexes, never all steps that ever were."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from dlq.alerting import metrics
from throttling.policy import MAX_HEAD_START_S
from workflows.engine.state import database
from workflows.models import Organization
from workflows.models.run import first_id

STEPS = "headrace_workflows_steprun"
OF_METRICS = ("queue_depth", "priority_target", "zombies")
PARTIAL = {"step_run_ready", "step_run_parked", "step_run_running", "step_run_wake", "step_run_unmarked"}


def plan_of(sql: str, parameters: dict[str, Any]) -> str:
    """The plan under the settings that the engine's connections have."""
    settings = re.findall(r"-c (\w+)=(\w+)", database._SETTINGS)
    with transaction.atomic(), connection.cursor() as cursor:
        for name, value in settings:
            cursor.execute(f"SET LOCAL {name} = {value}")
        cursor.execute(f"EXPLAIN {sql}", parameters)
        return "\n".join(line for (line,) in cursor.fetchall())


def refuse_whole_reads(plan: str) -> None:
    assert f"Seq Scan on {STEPS}" not in plan, plan
    assert "Bitmap" not in plan, plan
    read = set(re.findall(rf"Index (?:Only )?Scan (?:Backward )?using (\w+) on {STEPS}", plan))
    assert read & PARTIAL, plan
    assert "step_run_identity" not in read, plan


@pytest.mark.parametrize("name", ["close_orphan_steps", "rescue_unmarked"])
def test_a_sweep_looks_at_open_steps_only(org: Organization, name: str) -> None:
    refuse_whole_reads(plan_of(database.statement(name), {"batch": 100}))


def test_what_events_are_needed_for_is_asked_of_open_steps_only(org: Organization) -> None:
    refuse_whole_reads(plan_of(database.statement("event_needs"), {"org": org.id}))


@pytest.mark.parametrize("metric", OF_METRICS)
def test_a_metric_looks_at_open_steps_only(org: Organization, metric: str) -> None:
    now = timezone.now()
    since = now - dt.timedelta(minutes=5)
    parameters = {
        "now": now, "since": since, "first": first_id(since.timestamp()), "window_s": 300.0, "least": 1, "alerting": [],
        "lost_s": 5.0, "levels_from": [-MAX_HEAD_START_S, 0], "targets_s": [10.0, 5.0],
    }  # fmt: skip
    refuse_whole_reads(plan_of(metrics.statement(metric), parameters))
