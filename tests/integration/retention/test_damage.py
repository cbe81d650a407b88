"""A pass over rows that can't be deleted: each is noted and put off, and keeps no other."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from tests.integration.retention.history import LONG_AGO, ended, old_event, prune
from tests.support.poison import poisoned
from tests.support.workers import publish
from workflows.engine.maintenance import sweeps
from workflows.engine.retention import history, walking
from workflows.engine.retention import rules as engine_rules
from workflows.engine.sql import upkeep
from workflows.models import Attempt, Event, Flow, FlowVersion, Organization, PrunedRun, StepRun, SweepFailure
from workflows.models.run import first_id
from workflows.services.retention import rules

pytestmark = pytest.mark.usefixtures("published")


def is_noted(part: str, item: UUID) -> bool:
    """Whether the one item is noted, and nothing else of that part of a pass."""
    noted = SweepFailure.objects.filter(sweep=f"retention of {part}")
    return [(each.item, "poisoned" in each.error) for each in noted] == [(str(item), True)]


def try_all_again() -> None:
    SweepFailure.objects.filter(sweep__startswith="retention of").delete()
    sweeps.ledger().forget_memory()


def test_a_run_whose_rest_can_t_be_deleted_keeps_no_other(org: Organization, other: Organization) -> None:
    bad, good = ended(org), [ended(org), ended(other)]
    history.delete_runs([bad, *good], before=timezone.now())
    late = ended(org)
    with poisoned("headrace_workflows_steprun", "run_id", bad):
        prune(org)
        assert not StepRun.objects.filter(run_id__in=[*good, late]).exists()
        assert set(PrunedRun.objects.filter(run_id__in=[bad, *good, late]).values_list("run_id", flat=True)) == {bad}
        assert is_noted("rest", bad)
    try_all_again()
    prune(org)
    assert not StepRun.objects.filter(run_id=bad).exists()


def test_a_flow_whose_versions_can_t_be_deleted_keeps_no_other(org: Organization) -> None:
    flows = []
    for slug in ("one", "two", "three"):
        for step in ("a", "b"):
            publish(org, [{"id": step, "type": "noop"}], slug=slug)
        flows.append(Flow.objects.get(organization=org, slug=slug))
    old = {flow.id: flow.versions.earliest("id") for flow in flows}
    long_ago = timezone.now() - dt.timedelta(days=800)
    FlowVersion.objects.filter(flow__organization=org).update(created_at=long_ago)
    bad = old[flows[0].id]
    with poisoned("headrace_workflows_flowversion", "id", bad.id):
        prune(org, subjects=["versions"])
        assert set(FlowVersion.objects.filter(id__in=[each.id for each in old.values()])) == {bad}
        assert is_noted("versions", flows[0].id)


def test_an_event_that_can_t_be_deleted_keeps_no_other(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "PAGE", 4)
    events = [old_event(org) for _ in range(7)]
    with poisoned("headrace_workflows_event", "id", events[2]):
        prune(org)
        assert list(Event.objects.filter(org_id=org.id).values_list("id", flat=True)) == [events[2]]
        assert is_noted("events", events[2])


@pytest.mark.parametrize("kept", [False, True], ids=["of attempts", "of steps"])
def test_log_lines_that_can_t_be_cleared_keep_no_others(
    org: Organization, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(walking, "ROWS", 4)
    rules.set_rule(org, "completed", "forever", by="me")
    rules.set_rule(org, "logs", 1, by="me")
    model: Any = StepRun if kept else Attempt
    column = "kept_logs" if kept else "logs"
    at = timezone.now() - LONG_AGO
    ids = []
    for _ in range(7):
        run_id = ended(org)
        row = model.objects.get(run_id=run_id)
        old = UUID(int=first_id(at.timestamp()).int + row.id.int % 2**70)
        model.objects.filter(id=row.id).update(id=old, **{column: {"lines": [{"message": "hello"}]}})
        ids.append(old)
    bad = sorted(ids)[2]
    with poisoned(model._meta.db_table, "id", bad):
        prune(org)
        left = model.objects.filter(org_id=org.id).exclude(**{f"{column}__isnull": True})
        assert list(left.values_list("id", flat=True)) == [bad]
        assert is_noted("kept logs" if kept else "logs", bad)


def test_what_waits_look_for_is_not_asked_for_each_page(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[UUID] = []
    ask = upkeep.event_needs

    def counted(*, org: UUID) -> list[upkeep.EventNeedsRow]:
        asked.append(org)
        return ask(org=org)

    monkeypatch.setattr(upkeep, "event_needs", counted)
    monkeypatch.setattr(walking, "PAGE", 2)
    for _ in range(6):
        old_event(org)
    assert prune(org)[0]["headrace_workflows_event"] == 6
    assert asked == [org.id]
    asked.clear()
    monkeypatch.setattr(engine_rules, "REREAD_AFTER_S", -1.0)
    for _ in range(6):
        old_event(org)
    prune(org)
    assert len(asked) == 3, "a pass may take hours: it is asked again then"
