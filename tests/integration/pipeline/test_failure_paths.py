"""What follows a failure: fallbacks, steps that undo others, the `on_failure` flow, timeouts and deadlines."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from dlq.models import DeadLetter
from tests.support.workers import await_end, await_that, by_key, publish, run_to_end, statuses
from workflows import services
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.models import Organization, Run, StepRun

pytestmark = pytest.mark.usefixtures("workers")
ONCE = {"attempts": 1}


def noop(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "noop", **more}


def failing(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "raises", "config": {"how": "final"}, **more}


def called(httpserver: HTTPServer) -> list[str]:
    return [request.path.strip("/") for request, _ in httpserver.log]


def call(httpserver: HTTPServer, key: str, status: int = 200, **more: Any) -> dict[str, Any]:
    httpserver.expect_request(f"/{key}").respond_with_json({"by": key}, status=status)
    config = {"url": httpserver.url_for(f"/{key}"), "method": "POST"}
    return {"id": key, "type": "http_request", "config": config, "retry": ONCE, **more}


# --- fallbacks -----------------------------------------------------------------------------------------------------


def degradation(httpserver: HTTPServer, *statuses_: int) -> list[dict[str, Any]]:
    """Graceful degradation: a primary, and one fallback per further status."""
    names = ["primary", "fallback", "last-resort"][: len(statuses_)]
    steps = [call(httpserver, names[0], statuses_[0])]
    for before, name, status in zip(names, names[1:], statuses_[1:], strict=False):
        steps.append(call(httpserver, name, status, fallback_for=before))
    told = {"provider": "${ steps.primary.provider }", "result": "${ steps.primary.output.body.by }"}
    return [*steps, noop("report", config={"output": told})]


@pytest.mark.parametrize(
    ("answers", "provider", "calls"),
    [
        ((200, 200), "primary", ["primary"]),
        ((500, 200), "fallback", ["primary", "fallback"]),
        ((500, 500, 200), "last-resort", ["primary", "fallback", "last-resort"]),
    ],
)
def test_a_fallback_runs_only_after_a_failure_and_downstream_sees_one_result(
    org: Organization, httpserver: HTTPServer, answers: tuple[int, ...], provider: str, calls: list[str]
) -> None:
    detail = run_to_end(org, degradation(httpserver, *answers), output="${ steps['report'].output }")
    assert detail.run.status == "completed"
    assert detail.run.output == {"provider": provider, "result": provider}
    assert called(httpserver) == calls
    assert not DeadLetter.objects.filter(org_id=org.id).exists()  # handled gracefully


def test_where_the_fallback_fails_too_the_run_fails_with_one_dead_letter(
    org: Organization, httpserver: HTTPServer
) -> None:
    detail = run_to_end(org, degradation(httpserver, 500, 503))
    assert (detail.run.status, detail.run.error["step"]) == ("failed", "fallback")
    assert [letter.step_key for letter in DeadLetter.objects.filter(org_id=org.id)] == ["fallback"]


def test_a_fallback_may_be_the_last_step(org: Organization) -> None:
    steps = [failing("a"), noop("b", fallback_for="a", config={"output": 7})]
    detail = run_to_end(org, steps, output="${ steps.a.output }")
    assert (detail.run.status, detail.run.output) == ("completed", 7)


def test_the_fallback_of_a_skipped_step_is_skipped(org: Organization) -> None:
    steps = [noop("a"), failing("b", **{"if": "false"}), noop("c", fallback_for="b"), noop("d", needs=["b"])]
    assert statuses(run_to_end(org, steps)) == {"a": "completed", "b": "skipped", "c": "skipped", "d": "skipped"}


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([noop("a"), noop("b", fallback_for="x")], "unknown step 'x'"),
        ([noop("a", fallback_for="a")], "can't stand in for itself"),
        ([noop("a"), noop("b", fallback_for="a"), noop("c", fallback_for="a")], "several fallbacks"),
        ([noop("a"), noop("b", fallback_for="a", needs=[])], "has no needs"),
        ([noop("a"), noop("b", fallback_for="a", **{"if": "true"})], "has no needs, no if"),
        ([noop("a", fallback_for="b"), noop("b", fallback_for="a")], "cycle"),
        ([noop("a", on_failure="x")], "unknown step 'x'"),
        ([noop("a", on_failure="a")], "not undone itself"),
        ([noop("a", on_cancel="u"), noop("u"), noop("b", needs=["u"])], "nothing can need it"),
        ([noop("a", on_cancel="u"), noop("u", needs=["a"])], "has no needs"),
    ],
)
def test_impossible_failure_paths_are_refused(steps: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        parse({"flow": "f", "steps": steps})


# --- undoing -------------------------------------------------------------------------------------------------------


def saga(httpserver: HTTPServer, last: int = 500) -> list[dict[str, Any]]:
    return [
        call(httpserver, "book-flight", on_failure="cancel-flight", on_cancel="cancel-flight"),
        call(httpserver, "book-hotel", on_failure=["cancel-hotel"], on_cancel=["cancel-hotel"]),
        call(httpserver, "charge", last, on_failure="note-failure"),
        call(httpserver, "send-ticket", on_failure="recall-ticket"),
        call(httpserver, "cancel-flight"),
        call(httpserver, "cancel-hotel"),
        call(httpserver, "note-failure"),
        call(httpserver, "recall-ticket"),
    ]


def test_what_was_done_is_undone_in_reverse_where_the_run_fails(org: Organization, httpserver: HTTPServer) -> None:
    detail = run_to_end(org, saga(httpserver))
    assert called(httpserver) == [
        "book-flight",
        "book-hotel",
        "charge",
        "note-failure",
        "cancel-hotel",
        "cancel-flight",
    ]
    assert (detail.run.status, detail.run.error["step"]) == ("failed", "charge")
    assert statuses(detail)["send-ticket"] == "cancelled"
    assert "recall-ticket" not in statuses(detail)
    assert DeadLetter.objects.filter(org_id=org.id).count() == 1


def test_nothing_is_undone_where_the_run_completes(org: Organization, httpserver: HTTPServer) -> None:
    detail = run_to_end(org, saga(httpserver, 200))
    assert detail.run.status == "completed"
    assert called(httpserver) == ["book-flight", "book-hotel", "charge", "send-ticket"]


def test_what_was_done_is_undone_where_the_run_is_cancelled(org: Organization, httpserver: HTTPServer) -> None:
    steps = saga(httpserver)
    steps[2:3] = [{"id": "charge", "type": "delay", "config": {"for": "1h"}}]
    slug = publish(org, steps)
    (run_id,) = services.trigger(org, slug).run_ids
    await_that(lambda: StepRun.objects.filter(run_id=run_id, key="charge", status="waiting").exists())
    services.cancel_run(org, run_id, reason="changed their mind")
    detail = await_end(org, run_id)
    assert (detail.run.status, detail.run.cancel_reason) == ("cancelled", "changed their mind")
    assert called(httpserver) == ["book-flight", "book-hotel", "cancel-hotel", "cancel-flight"]


def test_a_failing_undo_is_tried_again_and_buried_and_the_others_go_on(
    org: Organization, httpserver: HTTPServer
) -> None:
    steps = saga(httpserver)
    httpserver.clear()
    for step in steps:
        status = 500 if step["id"] in {"charge", "cancel-hotel"} else 200
        httpserver.expect_request(f"/{step['id']}").respond_with_response(Response("{}", status))
        if step["id"] == "cancel-hotel":
            step["retry"] = {"attempts": 2, "delay": "10ms"}
    detail = run_to_end(org, steps)
    assert called(httpserver)[3:] == ["note-failure", "cancel-hotel", "cancel-hotel", "cancel-flight"]
    assert detail.run.error["step"] == "charge"
    assert {letter.step_key for letter in DeadLetter.objects.filter(org_id=org.id)} == {"charge", "cancel-hotel"}


def test_a_step_that_fails_without_stopping_its_run_is_undone_and_the_run_waits_for_that(
    org: Organization, httpserver: HTTPServer
) -> None:
    steps = [
        call(httpserver, "book", 500, critical=False, on_failure="clean-up"),
        call(httpserver, "go-on"),
        call(httpserver, "clean-up"),
    ]
    steps[2] = {"id": "clean-up", "type": "probe_async", "config": {"hold_ms": 800}}
    detail = run_to_end(org, steps)
    assert statuses(detail) == {"book": "failed", "go-on": "completed", "clean-up": "completed"}
    assert detail.run.status == "completed"
    alone = run_to_end(org, [steps[0], steps[2]], slug="alone")  # it is the only sink
    assert statuses(alone) == {"book": "failed", "clean-up": "completed"}
    assert alone.run.status == "completed"


def test_an_undoing_step_reads_the_failure_and_the_outputs(org: Organization) -> None:
    told = {"of": "${ steps.a.output }", "why": "${ run.error.message }", "step": "${ run.error.step }"}
    steps = [noop("a", config={"output": 7}, on_failure="u"), failing("b"), noop("u", config={"output": told})]
    assert by_key(run_to_end(org, steps))["u"].step_run.output == {"of": 7, "why": "no use", "step": "b"}


# --- the on_failure flow -------------------------------------------------------------------------------------------


def test_a_failed_run_starts_its_flow_s_on_failure_flow_once(org: Organization) -> None:
    publish(org, [noop("look", config={"output": "${ event.data }"})], slug="handler")
    detail = run_to_end(org, [failing("a")], {"orderId": 7}, slug="orders", on_failure="handler")
    handler = await_that(lambda: Run.objects.filter(origin_id=detail.run.id).first())
    given = await_end(org, handler.id).run
    assert (given.status, given.event_name, given.origin_kind) == ("completed", "headrace/run.failed", "on_failure")
    assert given.input["error"]["message"] == "no use"
    assert given.input["event"]["data"] == {"orderId": 7}
    assert given.input["run"]["id"] == str(detail.run.id)
    time.sleep(1.2)  # the leader looks again twice
    assert Run.objects.filter(origin_id=detail.run.id).count() == 1


def test_a_missing_on_failure_flow_is_a_dead_letter(org: Organization) -> None:
    detail = run_to_end(org, [failing("a")], slug="orders", on_failure="nowhere")
    letter = await_that(lambda: DeadLetter.objects.filter(org_id=org.id, step_type="on_failure").first())
    assert (letter.category, letter.run_id) == ("configuration", detail.run.id)


def test_a_handler_that_fails_is_not_handled_by_itself(org: Organization) -> None:
    publish(org, [failing("h")], slug="handler", on_failure="orders")
    detail = run_to_end(org, [failing("a")], slug="orders", on_failure="handler")
    handler = await_that(lambda: Run.objects.filter(origin_id=detail.run.id).first())
    await_end(org, handler.id)
    time.sleep(1.2)
    assert not Run.objects.filter(origin_id=handler.id).exists()


def test_an_output_that_can_t_be_rendered_is_a_dead_letter(org: Organization) -> None:
    detail = run_to_end(org, [noop("a")], output="${ steps.a.output.nothing }")
    assert detail.run.status == "failed"
    letter = DeadLetter.objects.get(org_id=org.id)
    assert (letter.step_run_id, letter.step_type, letter.category) == (None, "output", "configuration")


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_start_in_time_is_cancelled(org: Organization) -> None:
    held = {"throttling": {"concurrency": 1}}
    slug = publish(
        org, [{"id": "a", "type": "probe_async", "config": {"hold_ms": 6_000}, **held}], timeouts={"start": "1s"}
    )
    first, second = services.trigger_many(org, slug, [{}, {}]).run_ids
    await_that(lambda: Run.objects.filter(id__in=[first, second], status="cancelled").exists(), 10)
    cancelled = Run.objects.get(id__in=[first, second], status="cancelled")
    assert "timeouts.start" in cancelled.cancel_reason
    other = await_end(org, ({first, second} - {cancelled.id}).pop())
    assert other.run.status == "completed"  # it had started: the start timeout is over


def test_a_run_that_does_not_end_in_time_is_cancelled_and_undone(org: Organization) -> None:
    steps = [noop("a", on_cancel="u"), {"id": "b", "type": "delay", "config": {"for": "1h"}}, noop("u")]
    detail = run_to_end(org, steps, timeouts={"finish": "1s"})
    assert (detail.run.status, "timeouts.finish" in detail.run.cancel_reason) == ("cancelled", True)
    assert statuses(detail) == {"a": "completed", "b": "cancelled", "u": "completed"}


def test_a_step_past_its_deadline_is_skipped_with_the_reason(org: Organization) -> None:
    steps = [
        noop("late", deadline="input.deadline"),
        noop("on-time", needs=[], deadline="input.later"),
        noop("c", needs=[]),
    ]
    now = dt.datetime.now(dt.UTC)
    data = {"deadline": (now - dt.timedelta(seconds=1)).isoformat(), "later": round((now.timestamp() + 3_600) * 1000)}
    detail = run_to_end(org, steps, data)
    assert statuses(detail) == {"late": "skipped", "on-time": "completed", "c": "completed"}
    assert by_key(detail)["late"].step_run.reason == "deadline_passed"


def test_a_deadline_shortens_the_timeout(org: Organization) -> None:
    steps = [{"id": "a", "type": "probe_async", "config": {"hold_ms": 20_000}, "deadline": "input.deadline",
              "retry": {"attempts": 3, "delay": "10ms"}}]  # fmt: skip
    began = time.monotonic()
    detail = run_to_end(org, steps, {"deadline": (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)).isoformat()})
    step = by_key(detail)["a"]
    assert time.monotonic() - began < 12
    assert (step.attempts[0].error["category"], step.step_run.reason) == ("resource", "deadline_passed")


@pytest.mark.parametrize("value", ["soon", "2026-01-01T00:00:00", True])
def test_a_bad_deadline_is_a_configuration_failure(org: Organization, value: object) -> None:
    detail = run_to_end(org, [noop("a", deadline="input.deadline")], {"deadline": value})
    assert by_key(detail)["a"].attempts[0].error["category"] == "configuration"


def test_a_compute_handler_that_does_not_stop_is_stopped_with_its_process(org: Organization) -> None:
    step = {
        "id": "a",
        "type": "raises_compute",
        "config": {"how": "ignores", "seconds": 60},
        "timeout": "1s",
        "retry": ONCE,
    }
    began = time.monotonic()
    detail = run_to_end(org, [step], patience_s=20)
    assert (detail.run.error["category"], time.monotonic() - began < 20) == ("resource", True)
    # Its place is free again: as many as there are children run to their ends.
    quick = {"type": "sandbox_sync", "config": {"code": "return 1"}}
    steps = [{"id": f"s{number}", "needs": [], **quick} for number in range(4)]
    assert run_to_end(org, steps, patience_s=30, slug="after").run.status == "completed"
