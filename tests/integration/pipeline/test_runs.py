"""Whole runs on real workers: order, branches, joins, skips, failures, retries, outputs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.workers import (
    WorkerPool,
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
    FlowNotFound,
    InvalidInput,
    InvalidOutput,
    PayloadTooLarge,
    RunNotFound,
)
from workflows.models import Event, FlowVersion, Organization, Run, Secret, StepRun
from workflows.selectors import run_lists

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


@pytest.mark.parametrize(
    ("code", "category", "says"),
    [
        ("while True:\n    pass", "resource", "time limit"),
        ("import time\ntime.sleep(60)", "resource", "sleep limit"),
        ("x = []\nwhile True:\n    x.append('a' * 100000)", "resource", "memory limit"),
        ("open('/etc/passwd').read()", "configuration", "no files"),
        ("import socket", "configuration", "no files, network"),
        ("import os\nos.environ['HOME']", "configuration", "environment"),
        ("def f(:", "configuration", "SyntaxError"),
        ("return {1, 2}", "invalid_output", "set"),
        ("return float('nan')", "invalid_output", "NaN"),
        ("return 'a\\x00b'", "invalid_output", "NUL"),
        ("return 'x' * 5000000", "invalid_output", "4,194,304"),
    ],
)
def test_bad_sandbox_code_is_a_failed_try_with_its_category(
    org: Organization, code: str, category: str, says: str
) -> None:
    config = {"code": code, "timeout": "300ms", "memory_mb": 32}
    detail = run_to_end(org, [{"id": "a", "type": "sandbox_sync", "retry": {"attempts": 1}, "config": config}])
    error = by_key(detail)["a"].attempts[-1].error
    assert error["category"] == category, error
    assert says in error["message"]
    assert error["traceback"]


def test_a_killed_sandbox_process_costs_one_try_and_the_worker_lives_on(org: Organization, workers: WorkerPool) -> None:
    slug = publish(
        org,
        [
            {
                "id": "a",
                "type": "code_execution",
                "retry": {"attempts": 2, **FAST},
                "config": {
                    "code": "import time\nwhile attempt == 1:\n    pass\nreturn attempt",
                    "timeout": "25s",
                },
            }
        ],
    )
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").exists(), 10)
    await_that(_kill_sandboxes, 5)
    detail = await_end(org, run_id)
    assert [a.status for a in by_key(detail)["a"].attempts] == ["failed", "completed"]
    assert by_key(detail)["a"].attempts[0].error["category"] == "resource"
    assert all(process.poll() is None for process in workers.processes)


def _kill_sandboxes() -> bool:
    import os
    import signal
    from pathlib import Path

    killed = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0].endswith(b"monty") and b"subprocess" in command:
            os.kill(int(path.parent.name), signal.SIGKILL)
            killed = True
    return killed


def test_sandbox_async_keeps_its_step_running_after_its_task_has_ended(org: Organization) -> None:
    """Two compute children, five sleeping steps: all run at once, since the tasks have ended."""
    code = "import time\ntime.sleep(1.2)\nreturn 1"
    steps = [{"id": f"s{i}", "type": "sandbox_async", "needs": [], "config": {"code": code}} for i in range(5)]
    slug = publish(org, steps)
    run_id = services.trigger(org, slug).run_ids[0]
    await_that(lambda: StepRun.objects.filter(run_id=run_id, status="running").count() == 5, 10, "five at once")
    assert await_end(org, run_id).run.status == "completed"


def test_code_execution_keeps_what_was_printed(org: Organization) -> None:
    config = {"code": "print('hello')\nreturn {'n': input['n'], 'before': steps['a']['output']}"}
    detail = run_to_end(org, [transform("a", "7"), {"id": "b", "type": "code_execution", "config": config}], {"n": 1})
    assert by_key(detail)["b"].step_run.output == {"result": {"n": 1, "before": 7}, "printed": "hello\n"}


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


def test_many_runs_start_at_once(org: Organization) -> None:
    slug = publish(org, [transform("a", "input.n * 2"), step("b")])
    ids = services.trigger_many(org, slug, [{"n": n} for n in range(300)]).run_ids
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 300, 20)
    outputs = dict(StepRun.objects.filter(run_id__in=ids, key="a").values_list("run_id", "output"))
    assert [outputs[run_id] for run_id in ids] == [n * 2 for n in range(300)]


def test_a_trigger_in_a_transaction_belongs_to_it(org: Organization) -> None:
    from django.db import transaction

    slug = publish(org, [step("a")])
    with transaction.atomic():
        services.trigger(org, slug)
        transaction.set_rollback(True)
    assert not Run.objects.filter(org_id=org.id).exists()
    with transaction.atomic():
        run_id = services.trigger(org, slug).run_ids[0]
    assert await_end(org, run_id).run.status == "completed"


def test_an_idempotency_key_gives_the_same_run(org: Organization) -> None:
    slug = publish(org, [step("a")])
    first = services.trigger(org, slug, idempotency_key="k")
    second = services.trigger(org, slug, {"other": 1}, idempotency_key="k")
    assert (second.run_ids, second.existing, first.existing) == (first.run_ids, True, False)
    assert Run.objects.filter(org_id=org.id).count() == 1


def test_bad_triggers_store_nothing(org: Organization) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    slug = publish(org, [step("a")], input_schema=schema)
    for data, error, says in (
        ({"n": "x"}, InvalidInput, "input.n: .x. is not of type .integer."),
        ({}, InvalidInput, ".n. is a required property"),
        ({"n": 1, "x": "y" * 600_000}, PayloadTooLarge, "the limit is 524,288"),
        ({"n": 1, "x": "\0"}, InvalidOutput, "NUL"),
    ):
        with pytest.raises(error, match=says):
            services.trigger(org, slug, data)
    with pytest.raises(FlowNotFound, match="'nope'"):
        services.trigger(org, "nope")
    for wrong in ({"priority": 0}, {"priority": 11}, {"priority": "urgent"}, {"delay": "soon"}, {"delay": -1}):
        with pytest.raises(InvalidInput):
            services.trigger(org, slug, {"n": 1}, **wrong)  # type: ignore[arg-type]
    assert not Run.objects.filter(org_id=org.id).exists()


def test_priorities_are_stored_as_seconds_of_head_start(org: Organization) -> None:
    slug = publish(org, [step("a")])
    for given, seconds in ((1, 480), (5, 0), (10, -600), ("critical", 600), ("background", -600), (None, 0)):
        run_id = services.trigger(org, slug, priority=given).run_ids[0]
        assert Run.objects.get(id=run_id).priority == seconds


def test_secrets_reach_outbound_fields_only_and_are_masked(org: Organization, httpserver: Any) -> None:
    secret = Secret(organization=org, name="TOKEN")
    secret.value = "s3cr3t-value"
    secret.save()
    assert b"s3cr3t" not in bytes(Secret.objects.get(organization=org).ciphertext)
    httpserver.expect_request("/x", headers={"x-token": "s3cr3t-value"}).respond_with_json({"echo": "s3cr3t-value"})
    config = {"url": httpserver.url_for("/x"), "headers": {"x-token": "${ secrets.TOKEN }"}}
    detail = run_to_end(org, [{"id": "a", "type": "http_request", "config": config}])
    found = by_key(detail)["a"]
    assert found.step_run.output["body"] == {"echo": "***"}
    assert found.attempts[0].input["headers"] == {"x-token": "***"}


def test_a_secret_is_masked_in_every_spelling_and_numbers_stay_json(org: Organization) -> None:
    for name, value in (("KEY", 'line "one"\nline two'), ("PORT", "8080")):
        secret = Secret(organization=org, name=name)
        secret.value = value
        secret.save()
    config = {
        "url": "http://127.0.0.1:1/",
        "method": "POST",
        "json": {"k": "${ secrets.KEY }", "p": "x${ secrets.PORT }", "n": 8080},
    }
    detail = run_to_end(org, [{"id": "a", "type": "http_request", "retry": {"attempts": 1}, "config": config}])
    assert by_key(detail)["a"].attempts[0].input["json"] == {"k": "***", "p": "x***", "n": 8080}


def test_lists_filter_sort_and_page(org: Organization) -> None:
    slug = publish(org, [step("a")])
    ids = [
        services.trigger(org, slug, priority=given, user_id="u" if given == 1 else "").run_ids[0]
        for given in (5, 1, 10)
    ]
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 3)
    where = run_lists.RunFilter()
    first = run_lists.runs_page(org, where, limit=2)
    rest = run_lists.runs_page(org, where, limit=2, cursor=first.next_cursor)
    assert [run.id for run in (*first.runs, *rest.runs)] == ids[::-1]
    assert rest.next_cursor == ""
    for sort in ("priority", "duration"):
        one = run_lists.runs_page(org, where, limit=2, sort=sort)
        two = run_lists.runs_page(org, where, limit=2, sort=sort, cursor=one.next_cursor)
        assert {run.id for run in (*one.runs, *two.runs)} == set(ids)
    assert [run.id for run in run_lists.runs_page(org, where, sort="priority").runs] == [ids[1], ids[0], ids[2]]
    assert [run.id for run in run_lists.runs_page(org, run_lists.RunFilter(user_id="u")).runs] == [ids[1]]
    for bad in ({"cursor": "junk"}, {"sort": "name"}, {"limit": 0}, {"cursor": first.next_cursor, "sort": "priority"}):
        with pytest.raises(InvalidInput):
            run_lists.runs_page(org, where, **bad)  # type: ignore[arg-type]


def test_a_run_holds_32_mib_of_output_at_most(org: Organization) -> None:
    big = {"type": "data_transform", "retry": {"attempts": 1}, "config": {"script": "return 'x' * 4000000"}}
    detail = run_to_end(org, [{"id": f"s{i}", **big} for i in range(10)])
    assert [s.step_run.status for s in detail.steps] == ["completed"] * 8 + ["failed", "cancelled"]
    assert detail.run.error is not None
    assert "more than 33,554,432 bytes together" in detail.run.error["message"]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_refused_and_the_workers_live_on(org: Organization, httpserver: Any) -> None:
    import json

    slug = publish(org, [step("a", config={"output": "${ input }"})], output="${ input }")
    with pytest.raises(InvalidOutput, match="nested more than 200"):
        services.trigger(org, slug, deep(300))
    assert await_end(org, services.trigger(org, slug, deep(150)).run_ids[0]).run.status == "completed"
    secret = Secret(organization=org, name="S")
    secret.value = "x"
    secret.save()
    httpserver.expect_request("/deep").respond_with_data(json.dumps(deep(600)), content_type="application/json")
    config = {"url": httpserver.url_for("/deep"), "headers": {"x": "${ secrets.S }"}}
    detail = run_to_end(
        org, [{"id": "a", "type": "http_request", "config": config, "retry": {"attempts": 1}}], slug="deep"
    )
    assert by_key(detail)["a"].attempts[-1].error["category"] == "invalid_output"
    assert run_to_end(org, [step("a")], slug="after").run.status == "completed"


def test_a_failed_conditional_takes_no_branch(org: Organization) -> None:
    decide = {
        "id": "x",
        "type": "conditional",
        "critical": False,
        "retry": {"attempts": 1},
        "config": {"branches": [{"if": "input.n", "then": ["a"]}], "else": ["b"]},
    }
    found = statuses(run_to_end(org, [decide, step("a"), step("b"), step("end", needs=["x"])], {"n": 1}))
    assert found == {"x": "failed", "a": "skipped", "b": "skipped", "end": "completed"}


def test_a_blocking_step_that_waits_for_a_thread_does_not_time_out_unstarted(org: Organization) -> None:
    busy = {
        "type": "data_transform",
        "needs": [],
        "timeout": "2s",
        "retry": {"attempts": 1},
        "config": {"script": "import time\ntime.sleep(0.7)\nreturn 1"},
    }
    detail = run_to_end(org, [{"id": f"s{i}", **busy} for i in range(60)])
    assert detail.run.status == "completed"


def test_an_event_with_an_odd_user_does_not_hold_up_the_others(org: Organization) -> None:
    from workflows.engine.events.receive import NewEvent, receive

    publish(org, [step("a")], on=[{"event": "x/y"}])
    receive(org.id, [NewEvent(name="x/y", user={"id": "u" * 500}), NewEvent(name="x/y")])
    await_that(lambda: Run.objects.filter(org_id=org.id, status="completed").count() == 2)
