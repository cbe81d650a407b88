"""A pass over what has expired: it is stopped between two pieces, one part that fails keeps no other, rules that change
meanwhile hold, and the leader's numbers are its own."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import uuid6
from django.core.management import call_command
from django.utils import timezone

from tests.integration.retention.history import LONG_AGO, ended, prune
from workflows import signals
from workflows.engine.retention import pacing, walking
from workflows.engine.retention import rules as engine_rules
from workflows.engine.retention.progress import Progress, state
from workflows.models import Organization, RetentionState, Run, SweepFailure, TriggerOutcome
from workflows.models.run import first_id
from workflows.services.retention import pruning, rules

pytestmark = pytest.mark.usefixtures("published")


@pytest.fixture
def as_it_was(live_db: None) -> Iterator[None]:
    before = state()
    yield
    before.save()


def test_ctrl_c_ends_prune_after_the_piece_that_it_is_at(
    org: Organization, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        ended(org)
    monkeypatch.setattr(walking, "PAGE", 1)

    def press(**_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # amid the work, where it would be taken for the run's fault

    before = signal.getsignal(signal.SIGINT)
    signals.runs_deleted.connect(press)
    try:
        with pytest.raises(SystemExit):
            call_command("prune", "--org", org.slug, "--json")
    finally:
        signals.runs_deleted.disconnect(press)
    assert "Call it again" in capsys.readouterr().err
    assert Run.objects.filter(org_id=org.id).count() == 1
    assert not SweepFailure.objects.filter(org_id=org.id).exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_pass_that_raises_is_not_recorded_as_ended(as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> None:
    RetentionState.objects.filter(id=1).update(next_at=None, dry_until=None)

    def broken(_: walking.Walk) -> Iterator[walking.Piece]:
        yield walking.Piece(subject="rest")
        raise OSError(5, "away")

    monkeypatch.setattr(walking.Walk, "pieces", broken)
    pruner = pacing.Pruner()
    pruner._pace._allowed = 100
    with pytest.raises(OSError, match="away"):
        pruner.turn()
    pruner.turn()  # which ended the pass before
    assert (state().ended_at, state().next_at) == (None, None)
    monkeypatch.setattr(walking.Walk, "pieces", lambda _: iter([walking.Piece(subject="rest")]))
    pruner._look_at = float("-inf")
    pruner._pace._allowed = 100
    pruner.turn()
    assert state().ended_at is not None


def test_a_part_that_fails_keeps_no_other_and_is_noted(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    at = timezone.now() - LONG_AGO
    TriggerOutcome.objects.create(
        id=UUID(int=first_id(at.timestamp()).int + uuid6.uuid7().int % 2**70), org_id=org.id, flow_id=uuid6.uuid7(),
        code="debounced",
    )  # fmt: skip

    def broken(*_: Any) -> Iterator[walking.Piece]:
        yield walking.Piece(subject="events")
        raise RuntimeError("poison")

    monkeypatch.setattr(walking.Walk, "_events", broken)
    done = pruning.prune(pruning.Request(organizations=[org]))
    assert done.failures == ["events"]
    assert not TriggerOutcome.objects.filter(org_id=org.id).exists()
    noted = SweepFailure.objects.get(sweep="retention of events", org_id=org.id)
    assert "poison" in noted.error
    monkeypatch.undo()
    assert pruning.prune(pruning.Request(organizations=[org])).failures == []
    assert not SweepFailure.objects.filter(org_id=org.id).exists()


def test_a_rule_that_is_set_during_a_pass_holds_in_it(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        ended(org)
    monkeypatch.setattr(walking, "PAGE", 1)
    monkeypatch.setattr(engine_rules, "REREAD_AFTER_S", -1.0)
    pieces = walking.Walk(walking.Wanted(org_ids=[org.id]), now=timezone.now()).pieces()
    next(piece for piece in pieces if piece.deleted.get("headrace_workflows_run"))
    rules.set_rule(org, "completed", "forever", by="me")
    assert not any(piece.deleted.get("headrace_workflows_run") for piece in pieces)
    assert Run.objects.filter(org_id=org.id).count() == 1


def test_prune_leaves_the_leader_s_numbers(org: Organization, as_it_was: None) -> None:
    ended(org)
    began = timezone.now() - dt.timedelta(minutes=1)
    leader = Progress()
    leader.add(walking.Piece(subject="failed", deleted={"headrace_workflows_run": 7}))
    leader.held["it is kept"] = 5
    leader.save(began_at=began)
    before = state()
    pruning.prune(pruning.Request(organizations=[org]))
    after = state()
    assert (after.last_pass, after.held, after.began_at) == ({"headrace_workflows_run": 7}, {"it is kept": 5}, began)
    assert after.deleted["headrace_workflows_run"] == before.deleted["headrace_workflows_run"] + 1
    assert prune(org)[0] == {}
