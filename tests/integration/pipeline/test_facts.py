"""Keys, filters and steps read the same facts, and what can't be a key is said in the author's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from dlq.models import DeadLetter
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.errors import InvalidInput
from workflows.models import Organization, Run
from workflows.services import events

NOOP = [{"id": "a", "type": "noop", "config": {"output": "${ event.user.id }"}}]


@pytest.mark.parametrize("name", ["singleton", "idempotency", "priority", "concurrency"])
def test_the_user_that_a_caller_names_is_there_for_keys_too(org: Organization, workers: WorkerPool, name: str) -> None:
    given: dict[str, Any] = {
        "singleton": {"key": "event.user.id"}, "idempotency": {"key": "event.user.id"},
        "priority": "event.user.id == 'u1' ? 5 : 0", "concurrency": {"limit": 1, "key": "event.user.id"},
    }  # fmt: skip
    publish(org, NOOP, slug="u", **{name: given[name]}, output="${ steps['a'].output }")
    run = await_end(org, services.trigger(org, "u", {}, user_id="u1").run_ids[0]).run
    assert (run.status, run.output) == ("completed", "u1")
    assert run.priority == (5 if name == "priority" else 0)


@pytest.mark.parametrize("name", ["singleton", "idempotency", "rate_limit", "concurrency"])
def test_the_organization_is_there_for_keys(org: Organization, workers: WorkerPool, name: str) -> None:
    more: dict[str, Any] = {"rate_limit": {"limit": 5, "period": "1s"}, "concurrency": {"limit": 1}}.get(name, {})
    publish(org, [{"id": "a", "type": "noop"}], slug="o", **{name: {"key": "org.slug", **more}})
    assert await_end(org, services.trigger(org, "o", {}).run_ids[0]).run.status == "completed"


@pytest.mark.parametrize(
    ("user", "kept"), [({"id": None}, ""), ({"id": {"a": 1}}, ""), ({"id": 7}, "7"), ({}, ""), ({"id": True}, "")]
)
def test_a_user_id_that_is_no_text_is_none(
    org: Organization, workers: WorkerPool, user: dict[str, Any], kept: str
) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="e", on={"event": "facts/user"})
    events.send(org, {"name": "facts/user", "user": user})
    run = await_that(lambda: Run.objects.filter(org_id=org.id).first(), what="the run")
    assert run.user_id == kept


@pytest.mark.parametrize("data", [{}, {"customer": None}, {"customer": {"a": 1}}, {"customer": ""}])
def test_a_key_that_is_none_fails_with_the_limit_in_the_authors_words(
    org: Organization, workers: WorkerPool, data: dict[str, Any]
) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="k", concurrency={"limit": 1, "key": "event.data.customer"})
    run = await_end(org, services.trigger(org, "k", data).run_ids[0]).run
    assert run.status == "failed"
    letter = DeadLetter.objects.get(org_id=org.id)
    assert letter.category == "configuration"
    assert "The key of the flow's concurrency can't be used: `event.data.customer`" in letter.error_message
    assert "flow:" not in letter.error_message


def test_two_events_without_the_keys_field_are_two_refusals(org: Organization) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="s", singleton={"key": "event.data.customer"})
    for data in ({}, {"customer": None}):
        with pytest.raises(InvalidInput, match="The key of the flow's singleton can't be used: `event.data.customer`"):
            services.trigger(org, "s", data)


def test_a_flows_retry_override_takes_effect(org: Organization, workers: WorkerPool, api_key: str) -> None:
    steps = [{"id": "a", "type": "sandbox_sync", "config": {"code": "raise ValueError('x')"}}]
    slug = publish(org, steps, slug="r")
    client = Client(headers={"Authorization": f"Bearer {api_key}"})
    body = {"scope": "flow", "flow": slug, "retry": {"attempts": 4, "backoff": "fixed", "delay": 50}}
    answer = client.put("/api/limits", json.dumps(body), content_type="application/json")
    assert answer.status_code < 300, answer.content
    detail = await_end(org, services.trigger(org, slug, {}).run_ids[0])
    assert len(detail.steps[0].attempts) == 4


def test_code_in_a_container_sees_its_item(org: Organization, workers: WorkerPool) -> None:
    inner = [
        {"id": "code", "type": "sandbox_sync", "config": {"code": "return [item['n'] * 2, index]"}},
        {
            "id": "script",
            "type": "data_transform",
            "config": {"script": "[item['n'] * 3, index, steps['code']['output'][0]]"},
        },
    ]
    publish(org, [{"id": "m", "type": "map", "config": {"items": "${ input.l }"}, "steps": inner}], slug="m",
            output="${ steps['m'].output }")  # fmt: skip
    run = await_end(org, services.trigger(org, "m", {"l": [{"n": 1}, {"n": 2}]}).run_ids[0]).run
    assert run.status == "completed"
    assert "[3, 0, 2]" in json.dumps(run.output)
    assert "[6, 1, 4]" in json.dumps(run.output)
