"""Log lines that a step has kept while it waited: they go with the logs, and are not written again once they are full."""

from __future__ import annotations

import json
import secrets
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from tests.integration.retention.history import LONG_AGO, aged, prune
from tests.support.by_hand import claim, end, start
from workflows.engine.pipeline import record
from workflows.engine.state.records import StepResult
from workflows.models import Organization, Run, StepRun
from workflows.services.retention import rules
from workflows.steps.outcome import Sleep

pytestmark = pytest.mark.usefixtures("published")
NOOP = {"id": "a", "type": "noop"}


def sleep_with(run_id: UUID, text: str) -> None:
    """The step logs something, and sleeps; then it is ready again."""
    logs = json.dumps([{"level": "info", "message": text}])
    record.record([StepResult(claim=claim(run_id, "a"), outcome=Sleep(seconds=3_600), logs=logs)])
    assert StepRun.objects.filter(run_id=run_id, status="waiting").update(status="ready", waiting_for="", wake_at=None)


def kept_on_disk() -> int:
    """How many values of steps are stored out of line, dead ones included."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'headrace_workflows_steprun'::regclass"
        )
        (table,) = cursor.fetchone()
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def test_kept_lines_go_with_the_logs_of_ended_runs(org: Organization) -> None:
    old, open_ = start(org, [NOOP]), start(org, [NOOP])
    for run_id in (old, open_):
        sleep_with(run_id, "kept")
    end(claim(old, "a"))
    aged(old)
    at = timezone.now() - LONG_AGO
    Run.objects.filter(id=open_).update(created_at=at)
    rules.set_rule(org, "completed", "forever", by="me")
    rules.set_rule(org, "logs", 1, by="me")
    # the ids of steps are of their run's moment
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE headrace_workflows_steprun SET id = overlay(id::text placing '00000000' from 1 for 8)::uuid "
            "WHERE org_id = %s", [org.id]
        )  # fmt: skip
    deleted, _ = prune(org)
    assert deleted["log lines of steps"] == 1
    assert StepRun.objects.get(run_id=old).kept_logs is None
    assert StepRun.objects.get(run_id=open_).kept_logs["lines"][0]["message"] == "kept"


def test_lines_that_are_full_are_not_written_again(org: Organization) -> None:
    run_id = start(org, [NOOP])
    for _ in range(2):
        sleep_with(run_id, secrets.token_hex(10_000))
    full = StepRun.objects.get(run_id=run_id).kept_logs
    assert "later lines" in full["lines"][-1]["message"]
    before = kept_on_disk()
    sleep_with(run_id, "one more")
    assert StepRun.objects.get(run_id=run_id).kept_logs == full
    assert kept_on_disk() == before
