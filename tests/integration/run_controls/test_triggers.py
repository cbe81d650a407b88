"""What a trigger takes and a run holds: transactions, keys, priorities, secrets, lists, bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.pipeline.test_runs import step, transform
from tests.support.workers import (
    await_end,
    await_that,
    by_key,
    publish,
    run_to_end,
    statuses,
)
from workflows import services
from workflows.errors import (
    FlowNotFound,
    InvalidInput,
    InvalidOutput,
    PayloadTooLarge,
)
from workflows.models import Organization, Run, Secret, StepRun
from workflows.selectors import run_lists

pytestmark = pytest.mark.usefixtures("workers")


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
