"""Approvals that name their approvers: an operator who is none of them is refused, or says so."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.integration.api.test_api import Api, assert_problem
from tests.support.admin_site import said, staff
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish
from workflows import services
from workflows.models import AccessKey, Organization, Wait
from workflows.services import approvals


@pytest.fixture
def wait(org: Organization, workers: WorkerPool) -> Wait:
    """A decision that is Anna's and the key deploy's."""
    config = {"title": "Pay?", "approvers": ["user:anna", "key:deploy"]}
    slug = publish(org, [{"id": "ok", "type": "wait_for_approval", "config": config}])
    run_id = services.trigger(org, slug).run_ids[0]
    found: Wait = await_that(lambda: Wait.objects.filter(run_id=run_id).first(), what="the wait")
    return found


def undecided(org: Organization, wait: Wait) -> bool:
    return approvals.get(org, wait.step_run_id).wait.answer is None


def answer_of(org: Organization, wait: Wait) -> Any:
    """The output of the step, once its run has ended."""
    return by_key(await_end(org, wait.run_id))["ok"].step_run.output


def decide(org: Organization, wait: Wait, key_name: str, *, operator: bool, **more: Any) -> Any:
    key = AccessKey.issue(org, "api", key_name, operator=operator)[1]
    return Api(key).post(f"/approvals/{wait.step_run_id}", {"decision": "approve", **more})


def test_an_operators_key_is_refused_until_it_says_so(org: Organization, wait: Wait) -> None:
    refused = decide(org, wait, "ops", operator=True)
    assert_problem(refused, 403, "forbidden", "asOperator: true")
    assert undecided(org, wait)
    answer = decide(org, wait, "ops", operator=True, asOperator=True).json()
    assert (answer["approved"], answer["by"], answer["asOperator"]) == (True, "key:ops", True)
    assert answer_of(org, wait)["asOperator"] is True


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
    assert undecided(org, wait)
    boss.post(path, {"decision": "reject", "as_operator": "yes"})
    answer = answer_of(org, wait)
    assert (answer["approved"], answer["asOperator"]) == (False, True)
