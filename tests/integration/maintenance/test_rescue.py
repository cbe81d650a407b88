"""What rescue finds and repairs, and what keeps no step back."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.pipeline.test_transitions import WORKER, noop, start
from tests.support.workers import nobody_dispatches, publish, scalar
from workflows import selectors, services
from workflows.engine.maintenance import gate_sync, leader, lost_messages
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.sql import leader as leader_sql
from workflows.engine.sql import rescue as rescue_sql
from workflows.engine.state import database, expression_context, flow_cache
from workflows.engine.state.records import ReadyStep
from workflows.models import Organization, Run, StepRun
from workflows.steps.registry import REGISTRY, Mode, StepConfig, StepType


@pytest.mark.parametrize(
    ("damage", "publications"), [("dispatched_at = NULL", 1), ("dispatched_at = now() - interval '1 hour'", 2)]
)
def test_rescue_publishes_what_was_not_published_or_lost(
    org: Organization, published: list[ReadyStep], damage: str, publications: int
) -> None:
    run_id = start(org, [noop("a")])[0]
    published.clear()
    scalar(
        f"UPDATE headrace_workflows_steprun SET {damage}, ready_at = now() - interval '1 hour' WHERE run_id = %s RETURNING 1",
        run_id,
    )
    if "NULL" in damage:
        leader._undispatched()
    else:
        lost = rescue_sql.rescue_lost_messages(queue="headrace.io", before=9e9, idle_s=None, batch=1_000)
        mine = StepRun.objects.get(run_id=run_id).id
        assert mine not in lost_messages.not_at_the_gate([row.id for row in lost])  # it was granted just now
        rows = rescue_sql.publish_again(ids=[row.id for row in lost])
        dispatch.dispatch([ReadyStep.of(row) for row in rows])
    mine = [step for step in published if step.run_id == run_id]
    assert len(mine) == 1
    assert StepRun.objects.get(run_id=run_id).dispatch_count == publications


def damage(sql: str, *parameters: Any) -> None:
    """Change a status by hand, past the check of transitions."""
    scalar("SELECT set_config('headrace.damage', '1', false)")
    scalar(sql, *parameters)
    scalar("SELECT set_config('headrace.damage', '', false)")


def test_rescue_repairs_what_a_crash_can_leave(org: Organization, published: list[ReadyStep]) -> None:
    lost_join, orphan, stuck = start(org, [noop("a"), noop("b")], runs=3)
    damage(
        "UPDATE headrace_workflows_steprun SET needs_left = 0 WHERE run_id = %s AND key = 'b' RETURNING 1", lost_join
    )
    damage("UPDATE headrace_workflows_run SET status = 'completed', ended_at = now() WHERE id = %s RETURNING 1", orphan)
    damage("UPDATE headrace_workflows_steprun SET status = 'completed' WHERE run_id = %s RETURNING 1", stuck)
    leader.rescue(leader.Turn(worker=WORKER, sync=gate_sync.GateSync()))
    leader.sweep(gate_sync.GateSync())
    assert StepRun.objects.get(run_id=lost_join, key="b").status == "ready"
    assert StepRun.objects.get(run_id=orphan, key="a").status == "cancelled"
    assert selectors.run_detail(org, stuck).run.status == "completed"


def test_two_leaders_are_harmless_and_one_leads(live_db: None) -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    name = f"test-{one}"
    assert leader_sql.lead(name=name, holder=one, lease_s=60.0)
    assert not leader_sql.lead(name=name, holder=two, lease_s=60.0)
    leader_sql.resign(name=name, holder=one)
    assert leader_sql.lead(name=name, holder=two, lease_s=60.0)


def test_a_broker_that_does_not_answer_leaves_the_steps_ready(
    org: Organization, published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(steps: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(dispatch, "publish", refuse)
    run_id = start(org, [noop("a")])[0]
    row = StepRun.objects.get(run_id=run_id)
    assert (row.status, row.dispatched_at, row.dispatch_count) == ("ready", None, 0)


def test_a_trigger_in_an_engine_thread_belongs_to_its_transaction(
    org: Organization, published: list[ReadyStep]
) -> None:
    import threading

    from django.db import connections, transaction

    slug = publish(org, [noop("a")])

    def work() -> None:
        database.adopt()
        with transaction.atomic():
            services.trigger(org, slug, idempotency_key="k")
            transaction.set_rollback(True)
        services.trigger(org, slug, idempotency_key="k")
        database.close()
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert Run.objects.filter(org_id=org.id).count() == 1


def test_a_step_that_can_not_be_dispatched_keeps_no_other_back(
    org: Organization, published: list[ReadyStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = StepType(name="odd", summary="odd", config_model=StepConfig, handler=lambda _: None, mode=Mode.INLINE)
    monkeypatch.setitem(REGISTRY, "odd", kind)
    monkeypatch.setattr(dispatch, "publish", lambda steps: [*dispatch.messages(steps)] and published.extend(steps))
    with nobody_dispatches() as collected:
        services.trigger(org, publish(org, [{"id": "x", "type": "odd"}], slug="odd"))
        services.trigger(org, publish(org, [noop("a")], slug="even"))
    monkeypatch.delitem(REGISTRY, "odd")
    flow_cache.forget()
    dispatch.dispatch(collected)
    assert [step.key for step in published] == ["a"]


def test_secrets_are_masked_as_they_are_spelt() -> None:
    value = 'a "b"\nä/?'
    for text in (value, json.dumps({"k": value}), quote(value, safe=""), json.dumps(value, ensure_ascii=False)):
        assert "b" not in expression_context.mask(text, [value]).replace("%", "")
