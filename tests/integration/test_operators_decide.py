"""Approvals that name their approvers: an operator who is none of them is refused, or says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.admin_site import said, staff
from tests.integration.test_api import Api, assert_problem
from tests.workers import leave_nothing, publish
from workflows import services
from workflows.engine import meeting
from workflows.models import AccessKey, Organization, Wait


@pytest.fixture
def wait(org: Organization, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wait]:
    """A decision that is Anna's and the key deploy's. Its answer stays in the row: no step goes on with it."""
    monkeypatch.setattr(meeting, "resolve", lambda *_, **__: None)
    run_id = services.trigger(org, publish(org, [{"id": "a", "type": "noop"}]), delay="1h").run_ids[0]
    yield Wait.objects.create(
        org_id=org.id, run_id=run_id, step_run_id=uuid.uuid4(), kind="approval", since=timezone.now(),
        created_at=timezone.now(), options={"title": "x", "approvers": ["user:anna", "key:deploy"]},
    )  # fmt: skip
    leave_nothing(org)


def answer_of(wait: Wait) -> Any:
    wait.refresh_from_db()
    return wait.answer


def decide(org: Organization, wait: Wait, key_name: str, *, operator: bool, **more: Any) -> Any:
    key = AccessKey.issue(org, "api", key_name, operator=operator)[1]
    return Api(key).post(f"/approvals/{wait.step_run_id}", {"decision": "approve", **more})


def test_an_operators_key_is_refused_until_it_says_so(org: Organization, wait: Wait) -> None:
    refused = decide(org, wait, "ops", operator=True)
    assert_problem(refused, 403, "forbidden", "asOperator: true")
    assert answer_of(wait) is None
    answer = decide(org, wait, "ops", operator=True, asOperator=True).json()
    assert (answer["approved"], answer["by"], answer["asOperator"]) == (True, "key:ops", True)
    assert answer_of(wait)["asOperator"] is True


def test_a_key_that_is_no_operator_can_not_say_so(org: Organization, wait: Wait) -> None:
    refused = decide(org, wait, "other", operator=False, asOperator=True)
    assert_problem(refused, 403, "forbidden", "key:other may not decide this")
    assert "asOperator" not in refused.json()["detail"]


def test_who_is_named_decides_as_himself(org: Organization, wait: Wait) -> None:
    answer = decide(org, wait, "deploy", operator=True, asOperator=True).json()
    assert (answer["by"], "asOperator" in answer) == ("key:deploy", False)


def test_a_superuser_confirms_on_the_page(org: Organization, wait: Wait) -> None:
    boss: Client = staff(superuser=True)
    path = f"/approvals/{wait.step_run_id}/"
    page = boss.get(f"{path}?org={org.slug}").content.decode()
    assert 'name="as_operator"' in page
    refused = boss.post(path, {"decision": "approve"}, follow=True)
    assert "may not decide this" in said(refused)[0][1]
    assert answer_of(wait) is None
    boss.post(path, {"decision": "reject", "as_operator": "yes"})
    answer = answer_of(wait)
    assert (answer["approved"], answer["asOperator"]) == (False, True)
