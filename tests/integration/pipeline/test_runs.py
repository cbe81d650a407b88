"""Whole runs on real workers: order, branches, joins, skips, failures, retries, outputs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.workers import (
    await_end,
    await_that,
    by_key,
    publish,
    run_to_end,
    shipped_policies,
    statuses,
)
from workflows import presenters, selectors, services
from workflows.errors import (
    RunNotFound,
)
from workflows.models import Event, FlowVersion, Organization, Run, StepRun

pytestmark = pytest.mark.usefixtures("workers")


def step(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "noop", **more}


def transform(key: str, expression: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "data_transform", "config": {"expression": expression}, **more}


def script(key: str, code: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "data_transform", "config": {"script": code}, **more}


FAST = {"delay": "50ms", "backoff": "fixed"}


def test_steps_run_in_order_and_see_what_came_before(org: Organization) -> None:
    detail = run_to_end(
        org,
        [
            transform("a", "input.n + 1"),
            transform("b", "steps.a.output * 2"),
            step("c", config={"output": "got ${ steps.b.output }"}),
        ],
        {"n": 20},
    )
    assert detail.run.status == "completed"
    assert [s.step_run.output for s in detail.steps] == [21, 42, "got 42"]
    assert presenters.run_out(detail)["output"] == "got 42"
    times = [s.attempts[0].started_at for s in detail.steps]
    assert times == sorted(times)


def test_a_join_waits_for_all_its_needs(org: Organization) -> None:
    steps = [step("start"), *[transform(f"p{i}", f"{i}", needs=["start"]) for i in range(30)]]
    join = transform("join", " + ".join(f"steps.p{i}.output" for i in range(30)), needs=[f"p{i}" for i in range(30)])
    detail = run_to_end(org, [*steps, join])
    assert by_key(detail)["join"].step_run.output == sum(range(30))
    assert all(len(s.attempts) == 1 for s in detail.steps)


def test_a_false_condition_skips_and_the_skip_spreads(org: Organization) -> None:
    detail = run_to_end(
        org,
        [
            step("a"),
            step("b", **{"if": "input.go"}),
            step("c"),
            step("d", needs=["a", "c"]),
            step("e", needs=["c"]),
        ],
        {"go": False},
    )
    assert statuses(detail) == {"a": "completed", "b": "skipped", "c": "skipped", "d": "completed", "e": "skipped"}
    assert {key: line.step_run.reason for key, line in by_key(detail).items()} == {
        "a": "", "b": "condition", "c": "needs_skipped", "d": "", "e": "needs_skipped",
    }  # fmt: skip
    assert detail.run.status == "completed"


def test_a_condition_on_a_missing_field_is_false(org: Organization) -> None:
    assert statuses(run_to_end(org, [step("a", **{"if": "input.nowhere.x == 1"})])) == {"a": "skipped"}


def test_a_condition_that_is_no_boolean_fails_the_step_as_configuration(org: Organization) -> None:
    detail = run_to_end(org, [step("a", **{"if": "input.n"})], {"n": 1})
    assert detail.run.status == "failed"
    assert detail.run.error is not None
    assert detail.run.error["category"] == "configuration"
    assert "must give true or false" in detail.run.error["message"]


@pytest.mark.parametrize(("amount", "taken", "other"), [(5, "small", "large"), (500, "large", "small")])
def test_a_conditional_takes_one_branch_and_skips_the_other(
    org: Organization, amount: int, taken: str, other: str
) -> None:
    decide = {
        "id": "decide", "type": "conditional",
        "config": {"branches": [{"if": "input.amount < 100", "then": ["small"]}], "else": ["large"]},
    }  # fmt: skip
    detail = run_to_end(
        org, [decide, step("small"), step("large"), step("after", needs=["small", "large"])], {"amount": amount}
    )
    found = statuses(detail)
    assert (found[taken], found[other], found["after"]) == ("completed", "skipped", "completed")


def test_a_critical_failure_cancels_what_is_open_and_fails_the_run(org: Organization) -> None:
    detail = run_to_end(org, [script("a", "1/0", retry={"attempts": 1}), step("b"), step("c", needs=[])])
    assert statuses(detail) == {"a": "failed", "b": "cancelled", "c": "completed"}
    assert detail.run.status == "failed"
    assert detail.run.error is not None
    assert "ZeroDivisionError" in detail.run.error["message"]
    assert presenters.run_out(detail)["failedSteps"] == 1


def test_after_a_failure_that_is_not_critical_the_successors_run_with_null(org: Organization) -> None:
    detail = run_to_end(
        org,
        [script("a", "1/0", retry={"attempts": 1}, critical=False), transform("b", "steps.a.output == null")],
    )
    assert statuses(detail) == {"a": "failed", "b": "completed"}
    assert by_key(detail)["b"].step_run.output is True
    assert detail.run.status == "completed"


def test_a_failed_try_is_retried_and_every_try_is_kept(org: Organization) -> None:
    code = "if attempt < 3:\n    raise ValueError('try ' + str(attempt))\nreturn attempt"
    detail = run_to_end(org, [script("a", code, retry={"attempts": 5, **FAST})])
    found = by_key(detail)["a"]
    assert found.step_run.output == 3
    assert [(a.number, a.status) for a in found.attempts] == [(1, "failed"), (2, "failed"), (3, "completed")]
    assert found.attempts[0].error["message"] == "ValueError: try 1"
    assert "line 2" in found.attempts[0].error["traceback"]
    with shipped_policies():
        out = presenters.step_out(found)
    assert out["retryCount"] == 2
    assert out["throttlingConfig"] == {"concurrency": 15, "rateLimit": "50/30000ms", "maxRetries": 5}


def test_the_tries_are_bounded(org: Organization) -> None:
    detail = run_to_end(org, [script("a", "raise ValueError('always')", retry={"attempts": 3, **FAST})])
    found = by_key(detail)["a"]
    assert [a.status for a in found.attempts] == ["failed"] * 3
    assert presenters.step_out(found)["retryCount"] == 2


def test_a_delay_sleeps_without_a_worker_and_spends_no_try(org: Organization) -> None:
    slug = publish(org, [{"id": "wait", "type": "delay", "config": {"for": "400ms"}}, step("after")])
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="wait", status="waiting").exists(), 5)
    assert selectors.run_detail(org, run_id).status == "waiting"
    detail = await_end(org, run_id)
    assert len(by_key(detail)["wait"].attempts) == 1
    assert (presenters.ms(detail.run.created_at, detail.run.ended_at) or 0) >= 400


def test_a_delayed_run_starts_later(org: Organization) -> None:
    slug = publish(org, [step("a")])
    run_id = services.trigger(org, slug, delay="300ms").run_ids[0]
    assert selectors.queue_counts(org).delayed == 1
    detail = await_end(org, run_id)
    assert (presenters.ms(detail.run.created_at, detail.run.started_at) or 0) >= 300


def test_a_flow_output_is_rendered_when_the_run_ends(org: Organization) -> None:
    detail = run_to_end(
        org, [transform("a", "input.n")], {"n": 4}, output={"n": "${ steps.a.output }", "who": "${ org.slug }"}
    )
    assert detail.run.output == {"n": 4, "who": org.slug}


def test_a_flow_output_that_can_not_be_rendered_fails_the_run(org: Organization) -> None:
    detail = run_to_end(org, [step("a")], {}, output="${ input.gone }")
    assert detail.run.status == "failed"
    assert detail.run.error is not None
    assert "'gone'" in detail.run.error["message"]


def test_a_template_names_the_missing_field_and_is_not_retried(org: Organization) -> None:
    detail = run_to_end(org, [step("a", config={"output": {"x": "${ input.a.b }"}})], {"a": {}})
    found = by_key(detail)["a"]
    assert len(found.attempts) == 1
    assert found.attempts[0].error["category"] == "configuration"
    assert "output.x: `input.a.b`: there is no field 'b'" in found.attempts[0].error["message"]


def test_a_rendered_value_that_does_not_fit_is_a_configuration_failure(org: Organization) -> None:
    detail = run_to_end(org, [{"id": "w", "type": "delay", "config": {"for": "${ input.d }"}}], {"d": "soon"})
    assert detail.run.error is not None
    assert "'soon' is no duration" in detail.run.error["message"]


def test_a_published_event_starts_the_flows_that_listen(org: Organization) -> None:
    publish(
        org,
        [step("got", config={"output": "${ event.data.n }"})],
        slug="listener",
        on=[{"event": "shop/*", "if": "event.data.n > 1"}],
    )
    publish(org, [step("never")], slug="deaf", on=[{"event": "shop/sold", "if": "event.data.n > 100"}])
    send = {"id": "send", "type": "publish_event", "config": {"name": "shop/sold", "data": {"n": "${ input.n }"}}}
    detail = run_to_end(org, [send], {"n": 5}, slug="sender")
    event = Event.objects.get(org_id=org.id)
    assert by_key(detail)["send"].step_run.output == {"eventId": str(event.id)}
    run = await_that(lambda: Run.objects.filter(org_id=org.id, event_id=event.id).first())
    listener = await_end(org, run.id)
    assert listener.run.flow.slug == "listener"
    assert by_key(listener)["got"].step_run.output == 5
    assert Run.objects.filter(org_id=org.id).count() == 2
    assert selectors.find_run(org, event.id) == run.id


def test_a_run_stays_on_its_version(org: Organization) -> None:
    slug = publish(org, [{"id": "wait", "type": "delay", "config": {"for": "500ms"}}, transform("v", "1")])
    run_id = services.trigger(org, slug).run_ids[0]
    publish(org, [transform("v", "2")])
    assert by_key(await_end(org, run_id))["v"].step_run.output == 1
    assert by_key(await_end(org, services.trigger(org, slug).run_ids[0]))["v"].step_run.output == 2


def test_an_unchanged_definition_makes_no_new_version_and_a_published_one_is_immutable(org: Organization) -> None:
    from django.db import IntegrityError

    publish(org, [step("a")])
    publish(org, [step("a")])
    version = FlowVersion.objects.get(flow__organization=org)
    version.definition = {}
    with pytest.raises(IntegrityError, match="immutable"):
        version.save()
    added = version.steps.get()
    added.config = {"output": 1}
    with pytest.raises(IntegrityError, match="immutable"):
        added.save()


def test_cancel_stops_what_is_open(org: Organization) -> None:
    slug = publish(org, [{"id": "wait", "type": "delay", "config": {"for": "1h"}}, step("b")])
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="waiting").exists(), 5)
    run = services.cancel_run(org, run_id, reason="changed my mind")
    assert (run.status, run.cancel_reason) == ("cancelled", "changed my mind")
    assert set(statuses(selectors.run_detail(org, run_id)).values()) == {"cancelled"}
    assert services.cancel_run(org, run_id).status == "cancelled"
    with pytest.raises(RunNotFound):
        services.cancel_run(org, uuid.uuid4())


def test_cancel_stops_an_executing_call_and_the_run_is_cancelled(org: Organization, httpserver: Any) -> None:
    import time

    httpserver.expect_request("/slow").respond_with_handler(lambda _: time.sleep(8))
    slug = publish(
        org, [{"id": "busy", "type": "http_request", "config": {"url": httpserver.url_for("/slow")}}, step("b")]
    )
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists(), 10)
    services.cancel_run(org, run_id)
    detail = await_end(org, run_id, 7)
    assert (detail.run.status, statuses(detail)) == ("cancelled", {"busy": "cancelled", "b": "cancelled"})
    assert [a.status for a in by_key(detail)["busy"].attempts] == ["cancelled"]


def test_a_branch_that_was_not_taken_is_skipped_whatever_else_it_needs(org: Organization) -> None:
    decide = {
        "id": "decide",
        "type": "conditional",
        "config": {"branches": [{"if": "false", "then": ["no"]}], "else": ["yes"]},
    }
    detail = run_to_end(
        org,
        [
            step("other"),
            decide,
            step("no", needs=["other"]),
            step("yes", needs=["other"]),
            step("end", needs=["no", "yes"]),
        ],
    )
    found = statuses(detail)
    assert (found["no"], found["yes"], found["end"]) == ("skipped", "completed", "completed")


def test_cancel_ends_a_run_whose_step_is_executing(org: Organization) -> None:
    code = "import time\ntime.sleep(1.5)\nreturn 1"
    slug = publish(org, [{"id": "busy", "type": "sandbox_sync", "config": {"code": code}}, step("b")])
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists(), 10)
    assert services.cancel_run(org, run_id).status in {"queued", "running"}
    detail = await_end(org, run_id)
    assert detail.run.status == "cancelled"
    assert statuses(detail)["b"] == "cancelled"
