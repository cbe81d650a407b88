"""Containers: map, batch, loop and group, their results, failures and bounds."""

from __future__ import annotations

import itertools
import resource
from typing import Any

import pytest

from dlq import services as dead_letters
from dlq.models import DeadLetter
from tests.support import probes
from tests.support.by_hand import start
from tests.support.volume import volume
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish, run_to_end
from workflows import services
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.engine.containers import fan_out
from workflows.engine.pipeline import record
from workflows.engine.state.records import StepResult
from workflows.engine.waits import resolve
from workflows.models import FanOut, Organization, Run, StepRun
from workflows.services import repair
from workflows.steps.outcome import Completed, Failed, Outcome

DOUBLE = {"id": "double", "type": "data_transform", "config": {"expression": "item * 2"}}


def container(type_: str, *steps: dict[str, Any], **config: Any) -> list[dict[str, Any]]:
    after = {"id": "after", "type": "noop", "config": {"output": "${ steps['all'].output }"}}
    return [{"id": "all", "type": type_, "config": config, "steps": list(steps)}, after]


def output_of(org: Organization, steps: list[dict[str, Any]], data: Any = None) -> Any:
    detail = run_to_end(org, steps, data)
    assert detail.run.status == "completed", detail.run.error
    return by_key(detail)["after"].step_run.output


def test_a_map_gives_its_results_in_the_order_of_the_items(org: Organization, workers: WorkerPool) -> None:
    items = list(range(57))
    found = output_of(org, container("map", DOUBLE, items="${ input.items }", parallelism=7), {"items": items})
    assert found == {"total": 57, "successful": 57, "failed": 0, "errors": [], "results": [2 * n for n in items]}


def test_an_empty_map_is_done_at_once(org: Organization, workers: WorkerPool) -> None:
    found = output_of(org, container("map", DOUBLE, items=[]))
    assert found == {"total": 0, "successful": 0, "failed": 0, "errors": [], "results": []}


def test_steps_in_a_container_have_needs_and_conditions_and_read_each_other_and_what_is_around(
    org: Organization, workers: WorkerPool
) -> None:
    body = [
        DOUBLE,
        {"id": "odd", "type": "noop", "needs": ["double"], "if": "item % 2 == 1", "config": {"output": "odd"}},
        {
            "id": "text",
            "type": "noop",
            "needs": ["double", "odd"],
            "config": {"output": "${ index }: ${ steps.first.output } ${ steps.double.output }"},
        },
    ]
    first = {"id": "first", "type": "noop", "config": {"output": "of"}}
    detail = run_to_end(org, [first, *container("map", *body, items=[5, 6])])
    assert by_key(detail)["after"].step_run.output["results"] == ["0: of 10", "1: of 12"]
    inner = StepRun.objects.filter(run_id=detail.run.id).exclude(path="").order_by("path", "position")
    assert [(row.path, row.key, row.status) for row in inner] == [
        ("all[0]", "double", "completed"), ("all[0]", "odd", "completed"), ("all[0]", "text", "completed"),
        ("all[1]", "double", "completed"), ("all[1]", "odd", "skipped"), ("all[1]", "text", "completed"),
    ]  # fmt: skip


def test_a_map_in_a_map_sees_its_own_items(org: Organization, workers: WorkerPool) -> None:
    inner = {"id": "inner", "type": "map", "config": {"items": "${ item }"}, "steps": [DOUBLE]}
    found = output_of(org, container("map", inner, items=[[1, 2], [], [3]]))
    assert [each["results"] for each in found["results"]] == [[2, 4], [], [6]]


def test_a_map_keeps_to_its_parallelism(org: Organization, workers: WorkerPool) -> None:
    """Items take different times, so that they end one by one, with others still open."""
    body = {"id": "probe", "type": "probe_async", "config": {"hold_ms": "${ 10 + item % 7 * 20 }"}}
    detail = run_to_end(org, container("map", body, items=list(range(40)), parallelism=3))
    spans = probes.spans({str(detail.run.id)})
    assert len(spans) == 40
    assert probes.most_at_once(spans, {}) <= 3


FAILS = {"id": "may-fail", "type": "raises", "if": "item % 3 == 0", "config": {"how": "final"}}


@pytest.mark.parametrize(
    ("config", "status", "failed"),
    [({}, "failed", 1), ({"max_failures": 1}, "failed", 2), ({"max_failures": 3}, "completed", 3),
     ({"on_failure": "continue"}, "completed", 3)],
)  # fmt: skip
def test_how_many_items_may_fail(
    config: dict[str, Any], status: str, failed: int, org: Organization, workers: WorkerPool
) -> None:
    steps = container("map", FAILS, {**DOUBLE, "needs": []}, items=list(range(9)), parallelism=1, **config)
    detail = run_to_end(org, steps)
    assert detail.run.status == status
    fan = FanOut.objects.get(run_id=detail.run.id)
    assert (fan.failed, fan.open) == (failed, 0)
    if status == "failed":
        assert detail.run.error["name"] == "ItemFailed"
        assert "no use" in detail.run.error["message"]
        assert fan.ended < fan.total
    else:
        output = by_key(detail)["after"].step_run.output
        assert (output["total"], output["successful"], output["failed"]) == (9, 6, 3)
        assert [each["index"] for each in output["errors"]] == [0, 3, 6]
        assert output["results"] == [None, 2, 4, None, 8, 10, None, 14, 16]


def test_a_failed_item_has_a_dead_letter_and_its_container_none(org: Organization, workers: WorkerPool) -> None:
    from dlq.models import DeadLetter

    run_to_end(org, container("map", FAILS, items=[3, 1]))
    assert list(DeadLetter.objects.filter(org_id=org.id).values_list("step_key", flat=True)) == ["may-fail"]


def test_items_are_tried_again_by_themselves(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "flaky", "type": "raises", "config": {"how": "once:unknown"}, "retry": {"delay": "50ms"}}
    assert output_of(org, container("map", body, items=[1, 2, 3]))["results"] == ["recovered"] * 3


def test_a_resume_takes_the_items_over_that_were_done(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "work", "type": "raises", "config": {"how": "${ item }"}, "retry": {"attempts": 1}}
    steps = container("map", body, items="${ input.items }", on_failure="stop", parallelism=1)
    slug = publish(org, steps)
    failed = await_end(org, services.trigger(org, slug, {"items": ["fine", "fine", "final", "fine"]}).run_ids[0])
    assert failed.run.status == "failed"
    fixed = {"items": ["fine", "fine", "fine", "fine"]}
    again = await_end(
        org, repair.replay(org, failed.run.id, by="me", mode="resume", new_input=fixed).run_id or failed.run.id
    )
    assert again.run.status == "completed"
    assert len(probes.spans({str(again.run.id)})) == 2
    assert by_key(again)["after"].step_run.output["successful"] == 4
    kept = StepRun.objects.filter(run_id=again.run.id, key="work").exclude(memoized_from=None)
    assert sorted(row.path for row in kept) == ["all[0]", "all[1]"]


def test_the_failed_items_of_a_completed_map_are_run_again_by_their_dead_letter(
    org: Organization, workers: WorkerPool
) -> None:
    body = {"id": "work", "type": "raises", "config": {"how": "${ item }"}, "retry": {"attempts": 1}}
    run = run_to_end(org, container("map", body, items=["fine", "final", "fine"], on_failure="continue")).run
    assert run.status == "completed"
    letter = DeadLetter.objects.get(org_id=org.id)
    again = dead_letters.replay(org, letter.id, mode="resume", by="test")
    detail = await_end(org, again.run_id)
    assert [span.run for span in probes.spans({str(detail.run.id)})] == [str(detail.run.id)]
    assert by_key(detail)["after"].step_run.output["failed"] == 1


def test_a_fork_from_a_container_runs_all_of_it_again(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "work", "type": "raises", "config": {"how": "fine"}}
    run = run_to_end(org, container("map", body, items=[1, 2])).run
    again = await_end(org, repair.fork_run(org, run.id, ["all"]).run_id or run.id)
    assert len(probes.spans({str(again.run.id)})) == 2


@pytest.mark.parametrize("how", ["stands in", "is undone"])
def test_a_container_that_fails_has_a_fallback_or_is_undone(how: str, org: Organization, workers: WorkerPool) -> None:
    body = {"id": "work", "type": "raises", "config": {"how": "final"}}
    failing = {"id": "all", "type": "map", "config": {"items": [1]}, "steps": [body]}
    other = {"id": "other", "type": "noop", "config": {"output": "instead"}}
    if how == "stands in":
        steps = [failing, {**other, "fallback_for": "all"}]
    else:
        steps = [{**failing, "critical": False, "on_failure": "other"}, {"id": "end", "type": "noop"}, other]
    detail = run_to_end(org, steps)
    assert detail.run.status == "completed"
    assert by_key(detail)["other"].step_run.output == "instead"


def test_a_batch_takes_parts_with_pauses_and_counts_elements(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "sum", "type": "data_transform", "config": {"script": "sum(item)", "input": "${ item }"}}
    body["config"] = {"expression": "size(item)"}
    detail = run_to_end(org, container("batch", body, items=list(range(10)), size=4, pause="300ms"))
    output = by_key(detail)["after"].step_run.output
    assert (output["total"], output["successful"], output["results"]) == (10, 10, [4, 4, 2])
    rows = list(StepRun.objects.filter(run_id=detail.run.id, key="sum").order_by("index"))
    for before, after in itertools.pairwise(rows):
        assert after.started_at
        assert before.ended_at
        assert (after.started_at - before.ended_at).total_seconds() >= 0.3


def test_a_part_of_a_batch_that_needs_too_much_is_halved(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven by hand: parts with 7 in them fail for lack of resources until they are alone."""
    from tests.support.by_hand import NO
    from workflows.errors import Category

    run_id = start(org, container("batch", DOUBLE, items=list(range(8)), size=8, on_failure="continue"))
    perform_all(run_id, lambda claim, value: "full" if 7 in value else sum(value), category=Category.RESOURCE, error=NO)
    output = StepRun.objects.get(run_id=run_id, key="all").output
    assert output["results"] == [sum(range(4)), 4 + 5, 6, None]
    assert (output["total"], output["successful"], output["failed"]) == (8, 7, 1)
    assert [each["index"] for each in output["errors"]] == [7]


def perform_all(run_id: Any, work: Any, *, category: Any, error: Any) -> None:
    """Claim and record whatever is ready, until nothing is. `work` gives the output, or "full" for a failure."""
    import dataclasses
    import uuid

    from workflows.engine.pipeline import perform
    from workflows.engine.state.transitions import steps as step_transitions

    while ready := list(StepRun.objects.filter(run_id=run_id, status="ready")):
        claims = step_transitions.claim([(str(row.id), row.attempt) for row in ready], worker=uuid.uuid4()).claims
        results = []
        for visit in perform.open_visits(claims):
            if visit.step.container:
                given = work(visit.claim, visit.scope["item"])
                outcome: Outcome = Completed(output=given)
                if given == "full":
                    outcome = Failed(error=dataclasses.replace(error, category=category))
                text = None if given == "full" else str(given)
                results.append(StepResult(claim=visit.claim, outcome=outcome, output=text))
            else:
                prepared = perform.render(visit)
                results.append(prepared if isinstance(prepared, StepResult) else perform.perform(prepared))
        record.record(results)


def test_a_map_goes_on_with_half_the_parallelism_after_a_lack_of_resources(
    org: Organization, published: list[Any]
) -> None:
    from tests.support.by_hand import NO
    from workflows.errors import Category

    run_id = start(org, container("map", DOUBLE, items=list(range(20)), parallelism=8, on_failure="continue"))
    perform_all(run_id, lambda _, value: "full" if value == 3 else value, category=Category.RESOURCE, error=NO)
    assert FanOut.objects.get(run_id=run_id).parallelism == 4
    assert StepRun.objects.get(run_id=run_id, key="all").output["failed"] == 1


def test_a_loop_goes_on_while_its_condition_holds(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "next", "type": "data_transform", "config": {"expression": "item == null ? 1 : item * 2"}}
    found = output_of(org, container("loop", body, until="steps.next.output >= 100"))
    assert found["results"] == [1, 2, 4, 8, 16, 32, 64, 128]
    found = output_of(org, container("loop", body, **{"while": "index < input.times"}), {"times": 3})
    assert found["results"] == [1, 2, 4]
    assert output_of(org, container("loop", body, **{"while": "false"}))["results"] == []


@pytest.mark.parametrize(("policy", "status"), [("fail", "failed"), ("continue", "completed")])
def test_a_loop_has_a_bound(policy: str, status: str, org: Organization, workers: WorkerPool) -> None:
    body = {"id": "next", "type": "noop"}
    detail = run_to_end(org, container("loop", body, until="false", max_iterations=4, on_limit=policy))
    assert detail.run.status == status
    assert StepRun.objects.filter(run_id=detail.run.id, key="next").count() == 4
    if policy == "fail":
        assert detail.run.error["name"] == "LoopLimit"


def test_a_group_is_one_step_of_its_flow(org: Organization, workers: WorkerPool) -> None:
    body = [
        {"id": "a", "type": "noop", "config": {"output": 1}},
        {"id": "b", "type": "noop", "config": {"output": "${ steps.a.output }"}},
    ]
    assert output_of(org, container("group", *body)) == 1
    skipped = [{**container("group", *body)[0], "if": "false"}, {"id": "end", "type": "noop", "needs": []}]
    detail = run_to_end(org, skipped)
    assert not StepRun.objects.filter(run_id=detail.run.id, key="a").exists()


def test_waits_and_sleeps_in_a_container(org: Organization, workers: WorkerPool) -> None:
    body = [
        {"id": "nap", "type": "delay", "config": {"for": "50ms"}},
        {"id": "quiet", "type": "wait_for_event", "config": {"event": "x/y", "if": "async.data.n == item", "timeout": "100ms"}},
        {"id": "child", "type": "invoke_flow", "config": {"flow": "child", "data": {"n": "${ item }"}}},
    ]  # fmt: skip
    publish(org, [{"id": "n", "type": "noop", "config": {"output": "${ input.n }"}}], slug="child")
    assert output_of(org, container("map", *body, items=[1, 2, 3]))["results"] == [1, 2, 3]


def test_a_cancelled_run_ends_its_containers(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "long", "type": "delay", "config": {"for": "1h"}}
    run_id = start(org, container("map", body, items=[1, 2, 3], parallelism=2))
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="waiting", key="long").count() == 2)
    services.cancel_run(org, run_id)
    await_that(lambda: Run.objects.get(id=run_id).status == "cancelled")
    assert not StepRun.objects.filter(run_id=run_id).exclude(status="cancelled").exists()


def test_a_process_that_dies_before_it_sums_up_loses_nothing(
    org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(org, container("map", DOUBLE, items=[1, 2]))
    with monkeypatch.context() as dying:
        dying.setattr(fan_out, "conclude", lambda _: ([], []))
        perform_all(run_id, lambda _, value: value, category=None, error=None)
        assert StepRun.objects.get(run_id=run_id, key="all").status == "waiting"
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    resolve.rescue()
    assert StepRun.objects.get(run_id=run_id, key="all").output["results"] == [1, 2]


def test_a_map_costs_statements_by_group_and_not_by_item(org: Organization, workers: WorkerPool) -> None:
    """A number of items and ten times as many: the number of transactions and this process's memory stay within a line."""
    body = {"id": "work", "type": "noop", "config": {"output": "${ item }"}}
    slug = publish(org, container("map", body, items="${ input.items }", parallelism=200))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in (volume(1_000), volume(10_000)):
        detail = await_end(org, services.trigger(org, slug, {"items": list(range(number))}).run_ids[0], 240)
        assert by_key(detail)["after"].step_run.output["results"] == list(range(number))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"id": "a", "type": "map", "config": {"items": []}}, "list them"),
        ({"id": "a", "type": "noop", "steps": [DOUBLE]}, "no steps of its own"),
        ({"id": "a", "type": "map", "config": {"items": []}, "steps": [{**DOUBLE, "needs": ["b"]}]}, "unknown step 'b'"),
        ({"id": "a", "type": "map", "config": {"items": []}, "steps": [DOUBLE, DOUBLE]}, "duplicate id"),
        ({"id": "a", "type": "noop", "config": {"output": "${ item }"}}, "unknown name 'item'"),
        ({"id": "a", "type": "loop", "steps": [{"id": "x", "type": "noop"}]}, "either while or until"),
        ({"id": "a", "type": "loop", "config": {"until": "steps.nope.output"}, "steps": [{"id": "x", "type": "noop"}]}, "nope"),
        ({"id": "a", "type": "map", "config": {"items": [], "max_failures": 2, "on_failure": "continue"}, "steps": [DOUBLE]}, "sets no bound"),
        ({"id": "a", "type": "map", "config": {"items": []}, "steps": [{**DOUBLE, "on_failure": "b"}]}, "outside of containers"),
    ],
)  # fmt: skip
def test_a_bad_container_is_refused_with_the_reason(step: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionProblems, match=problem):
        parse({"flow": "flow", "steps": [step, {"id": "b", "type": "noop"}]})
