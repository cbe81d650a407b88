"""Runs in flight against the code of this process: what would break is named, and nothing is done."""

from __future__ import annotations

import io
import json
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.support.python_flows import basic
from tests.support.python_flows.basic import tell, told
from tests.support.workers import await_end, await_that, publish
from workflows import services
from workflows.functions import ReceivedEvent, Step, flows
from workflows.functions.flows import FunctionFlow
from workflows.functions.replay import in_flight
from workflows.functions.testing import FlowKit
from workflows.models import Organization, Secret, StepRun
from workflows.services import events

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def waiting(org: Organization) -> list[uuid.UUID]:
    """Three runs that wait for an event, each after one step."""
    services.apply_definition(org, basic.waits.spec())
    ids = [services.trigger(org, "code-waits", {"order": f"o-{number}"}).run_ids[0] for number in range(3)]
    await_that(lambda: StepRun.objects.filter(run_id__in=ids, key="paid", status="waiting").count() == 3, 20, "waits")
    return ids


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Have this process another code of the flow `code-waits`."""

    def changed(function: Callable[..., Any]) -> None:
        monkeypatch.setitem(flows._REGISTRY, "code-waits", FunctionFlow("code-waits", function, {}))

    return changed


def check(org: Organization, *more: str) -> dict[str, Any]:
    out = io.StringIO()
    try:
        call_command("flows", "replay-check", "--org", org.slug, "--json", *more, stdout=out)
    except CommandError:
        assert not json.loads(out.getvalue())["ok"]
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def reason(org: Organization) -> str:
    (shape,) = check(org)["shapes"]
    return str(shape["broken"][0]["reason"])


def test_the_code_that_the_runs_have_begun_with_fits(org: Organization, waiting: list[uuid.UUID]) -> None:
    found = check(org, "--sample", "1")
    assert found["ok"]
    assert found["shapes"] == [{"flow": "code-waits", "runs": 3, "checked": 1, "broken": []}]
    out = io.StringIO()
    call_command("flows", "replay-check", "code-waits", "--org", org.slug, stdout=out)
    assert "3 runs in" in out.getvalue()
    assert check(org, "code-chain")["runs"] == 0


def other_order(event: ReceivedEvent, step: Step) -> Any:
    step.run("effect", tell, event.data["order"], "effect")
    step.sleep("nap", "200ms")


def left_out(event: ReceivedEvent, step: Step) -> Any:
    return step.wait_for_event("paid", "code/paid", match="data.order")


def ends_early(event: ReceivedEvent, step: Step) -> Any:
    return None


def patched(event: ReceivedEvent, step: Step) -> Any:
    if step.patched("first-an-effect"):
        step.run("effect", tell, event.data["order"], "effect")
    step.sleep("nap", "200ms")
    return step.wait_for_event("paid", "code/paid", match="data.order")


def test_what_does_not_fit_is_named_and_no_step_is_performed(
    org: Organization, waiting: list[uuid.UUID], change: Callable[..., None]
) -> None:
    change(other_order)
    assert reason(org).startswith("Step 1 was 'nap', the code now asks for 'effect'.")
    with pytest.raises(CommandError, match="does not fit 3 of the 3 runs"):
        call_command("flows", "replay-check", "--org", org.slug, stdout=io.StringIO())
    change(left_out)
    assert reason(org).startswith("Step 1 was 'nap', the code now asks for 'paid'.")
    change(ends_early)
    assert reason(org).startswith("Step 1 was 'nap', the code now ends before it.")
    change(patched)
    assert check(org)["ok"]
    detail = StepRun.objects.filter(run_id__in=waiting, path="main")
    assert sorted(detail.values_list("key", flat=True)) == sorted(["nap", "paid"] * 3)


def connects(event: ReceivedEvent, step: Step) -> Any:
    step.sleep("nap", "200ms")
    socket.create_connection(("127.0.0.1", 9))


def writes(event: ReceivedEvent, step: Step) -> Any:
    Secret.objects.all().delete()
    step.sleep("nap", "200ms")
    step.wait_for_event("paid", "code/paid", match="data.order")


def raises(event: ReceivedEvent, step: Step) -> Any:
    raise KeyError(event.data["customer"])


def never_ends(event: ReceivedEvent, step: Step) -> Any:
    while True:
        pass


def test_the_code_reaches_nobody_and_writes_nothing(
    org: Organization, waiting: list[uuid.UUID], change: Callable[..., None]
) -> None:
    Secret(organization=org, name="KEPT").save()
    change(connects)
    assert "opens a connection outside of its steps" in reason(org)
    change(writes)
    assert check(org)["ok"]
    kept = Secret.objects.filter(organization=org, name="KEPT")
    assert kept.exists()
    kept.delete()  # nothing opens it, which tests of encryption keys would count
    change(raises)
    assert "raises KeyError: 'customer'" in reason(org)


def test_code_that_does_not_end_costs_its_budget_only(
    org: Organization, waiting: list[uuid.UUID], change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "MOST_OF_ONE_S", 0.2)
    change(never_ends)
    assert "had not gone through the journal" in reason(org)


def test_a_spent_budget_is_no_approval(org: Organization, waiting: list[uuid.UUID]) -> None:
    with pytest.raises(CommandError, match="unchecked: the time was up"):
        call_command("flows", "replay-check", "--org", org.slug, "--budget", "1ms", stdout=io.StringIO())


def test_a_flow_that_the_code_has_no_more_is_named(
    org: Organization, waiting: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(flows._REGISTRY, "code-waits")
    assert "no flow 'code-waits'" in reason(org)


def export(org: Organization, run_id: uuid.UUID) -> dict[str, Any]:
    out = io.StringIO()
    call_command("runs", "export-journal", str(run_id), "--org", org.slug, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_an_exported_run_is_replayed_by_the_kit(
    org: Organization, waiting: list[uuid.UUID], flow_kit: FlowKit, change: Callable[..., None]
) -> None:
    running = export(org, waiting[0])
    events.send(org, [{"name": "code/paid", "data": {"order": "o-0", "cents": 700}}])
    services.apply_definition(org, basic.chain.spec())
    await_end(org, waiting[0])
    ended = export(org, waiting[0])
    assert [step["key"] for step in ended["steps"]] == ["nap", "paid", "tell", "child", "never"]
    for journal in (running, ended):
        assert flow_kit.replay(basic.waits, journal).fits
    change(other_order)
    changed = flows.find("code-waits")
    assert changed is not None
    for journal in (running, ended):
        assert flow_kit.replay(changed, journal).sentence.startswith("Step 1 was 'nap'")


def test_a_failed_and_an_async_run_are_exported_too(org: Organization, flow_kit: FlowKit, tmp_path: Path) -> None:
    for flow, data in ((basic.uncaught, None), (basic.async_flow, {"dir": str(tmp_path)})):
        services.apply_definition(org, flow.spec())
        run_id = services.trigger(org, flow.slug, data).run_ids[0]
        await_end(org, run_id)
        verdict = flow_kit.replay(flow, export(org, run_id))
        assert verdict.fits, verdict.sentence
    assert told(tmp_path, "three") == 1


def test_a_run_without_a_journal_is_refused(org: Organization) -> None:
    slug = publish(org, [{"id": "one", "type": "noop"}])
    run_id = services.trigger(org, slug, None).run_ids[0]
    with pytest.raises(CommandError, match="not in Python"):
        call_command("runs", "export-journal", str(run_id), "--org", org.slug)
    with pytest.raises(CommandError, match="[Rr]un"):
        call_command("runs", "export-journal", str(uuid.uuid4()), "--org", org.slug)
