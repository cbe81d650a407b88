"""Whole numbers of any length keep their value: in templates, filters, waits, cancels, keys, bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Event, Organization, Run, Wait
from workflows.services import events

BIG = 123456789012345678901234567890
BEYOND = 2**64 + 1


def send(org: Organization, name: str, data: Any) -> None:
    events.send(org, {"name": name, "data": data})


def test_they_pass_through_templates_and_bodies(org: Organization, workers: WorkerPool, httpserver: HTTPServer) -> None:
    def echo(request: Request) -> Response:
        return Response(json.dumps({"body": request.get_data().decode()}), content_type="application/json")

    httpserver.expect_request("/echo").respond_with_handler(echo)
    steps = [
        {"id": "a", "type": "noop", "config": {"output": "${ input.n }"}},
        {"id": "b", "type": "noop", "config": {"output": "id=${ steps['a'].output }"}},
        {"id": "c", "type": "http_request", "config": {"url": httpserver.url_for("/echo"), "method": "POST", "json": "${ input }"}},
    ]  # fmt: skip
    output = {
        "n": "${ steps['a'].output }",
        "text": "${ steps['b'].output }",
        "sent": "${ steps['c'].output.body.body }",
    }
    publish(org, steps, slug="pass", output=output)
    run = await_end(org, services.trigger(org, "pass", {"n": BIG}).run_ids[0]).run
    assert run.output == {"n": BIG, "text": f"id={BIG}", "sent": json.dumps({"n": BIG})}


def test_they_are_read_from_answers(org: Organization, workers: WorkerPool, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/n").respond_with_data(f'{{"id": {BIG}}}', content_type="application/json")
    steps = [{"id": "a", "type": "http_request", "config": {"url": httpserver.url_for("/n")}}]
    publish(org, steps, slug="read", output="${ steps['a'].output.body.id }")
    assert await_end(org, services.trigger(org, "read", {}).run_ids[0]).run.output == BIG


@pytest.mark.parametrize(("condition", "starts"), [("> 10", True), (f"== {2**62}", False), ("< 0", False)])
def test_filters_compare_them(org: Organization, workers: WorkerPool, condition: str, starts: bool) -> None:
    publish(
        org, [{"id": "a", "type": "noop"}], slug="f", on={"event": "n/order", "if": f"event.data.total {condition}"}
    )
    send(org, "n/order", {"total": BIG})
    await_that(lambda: Event.objects.get(org_id=org.id).matched_at, what="the match")
    assert Run.objects.filter(org_id=org.id).exists() is starts


def test_a_wait_meets_its_number_and_no_neighbour(org: Organization, workers: WorkerPool) -> None:
    config = {"event": "n/paid", "if": "async.data.order == input.order", "timeout": "30s"}
    publish(
        org, [{"id": "w", "type": "wait_for_event", "config": config}], slug="w", output="${ steps['w'].output.data }"
    )
    run_id = services.trigger(org, "w", {"order": BEYOND}).run_ids[0]
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), what="the wait")
    send(org, "n/paid", {"order": BEYOND + 1})
    send(org, "n/paid", {"order": BEYOND})
    assert await_end(org, run_id).run.output == {"order": BEYOND}


def test_an_event_cancels_the_run_of_its_number_only(org: Organization, workers: WorkerPool) -> None:
    steps = [{"id": "w", "type": "delay", "config": {"for": "60s"}}]
    publish(org, steps, slug="c", on={"event": "n/start"}, cancel_on={"event": "n/stop", "match": "data.order"})
    send(org, "n/start", {"order": BIG})
    send(org, "n/start", {"order": BIG + 1})
    await_that(lambda: Run.objects.filter(org_id=org.id).count() == 2, what="two runs")
    send(org, "n/stop", {"order": BIG})
    cancelled = await_that(lambda: list(Run.objects.filter(org_id=org.id, status="cancelled")), what="the cancel")
    assert [run.input["order"] for run in cancelled] == [BIG]
    assert Run.objects.filter(org_id=org.id).exclude(status="cancelled").count() == 1


@pytest.mark.parametrize("control", [{"idempotency": "event.data.order"}, {"singleton": {"key": "event.data.order"}}])
def test_two_orders_have_two_keys(org: Organization, workers: WorkerPool, control: dict[str, Any]) -> None:
    steps = [{"id": "w", "type": "delay", "config": {"for": "60s"}}]
    publish(org, steps, slug="k", on={"event": "n/key"}, **control)
    for order in (10**20, 10**20 + 1, 10**20):
        send(org, "n/key", {"order": order})
    await_that(lambda: not Event.objects.filter(org_id=org.id, matched_at=None).exists(), what="the match")
    assert sorted(run.input["order"] for run in Run.objects.filter(org_id=org.id)) == [10**20, 10**20 + 1]


def test_a_thousand_digits_are_refused_with_a_word(org: Organization, api_key: str) -> None:
    from django.test import Client

    publish(org, [{"id": "a", "type": "noop"}], slug="a")
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {api_key}"})
    for text in ("9" * 5_000, "1e400", "NaN", "Infinity"):
        body = f'{{"triggerData": {{"n": {text}}}}}'
        answer = client.post("/api/workflows/a/run", body, content_type="application/json")
        assert answer.status_code in {400, 422}, (text[:10], answer.content)
        assert "n" in answer.json()["detail"]
