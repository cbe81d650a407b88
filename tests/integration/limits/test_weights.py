"""Fairness weights: operators set them, within bounds; what is stored from before goes on."""

from __future__ import annotations

import contextlib
import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client

from throttling.errors import ThrottlingError
from throttling.models import ThrottleOverride
from throttling.policy import Override
from throttling.retry import BackoffKind, RetryPolicy
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.engine.pipeline import admit
from workflows.errors import InvalidInput
from workflows.models import AccessKey, Organization
from workflows.services import limits

BAD = [0, -1, 0.009, 100.1, 1000, 1e-320, float("inf"), float("nan"), True]


def put(key: str, body: dict[str, Any]) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return Client().put("/api/limits", json.dumps(body), content_type="application/json", headers=headers)


def stored_weight(org: Organization) -> float | None:
    return ThrottleOverride.objects.filter(scope="org", org_id=org.id).values_list("weight", flat=True).first()


@pytest.fixture
def operator_key(org: Organization) -> str:
    return AccessKey.issue(org, "api", "operator", operator=True)[1]


@pytest.mark.parametrize("weight", [*BAD, 1, 2.5, 100, "2"])
def test_no_api_key_sets_a_weight(org: Organization, api_key: str, operator_key: str, weight: Any) -> None:
    for key in (api_key, operator_key):
        answer = put(key, {"scope": "org", "weight": weight, "concurrency": 5})
        assert (answer.status_code in {403, 422}, "weight" in answer.json()["detail"]) == (True, True)
    assert stored_weight(org) is None


@pytest.mark.parametrize("weight", BAD)
def test_a_weight_out_of_bounds_is_refused_for_operators_too(org: Organization, weight: Any) -> None:
    with pytest.raises(InvalidInput, match="weight"):
        limits.put_limit(ThrottleOverride(scope="org", org_id=org.id, weight=weight), by="test")
    if not isinstance(weight, bool):
        with pytest.raises(CommandError, match="weight"):
            call_command("limits", "set", "--org", org.slug, "--organization", f"--weight={weight}", stdout=StringIO())
    assert stored_weight(org) is None


def test_an_operator_sets_it_by_command_and_in_the_admin(org: Organization) -> None:
    call_command("limits", "set", "--org", org.slug, "--organization", "--weight", "2.5", stdout=StringIO())
    assert admit.policies().weight(org.id) == 2.5
    get_user_model().objects.create_superuser(f"boss-{org.slug}", password="secret")
    admin = Client()
    admin.login(username=f"boss-{org.slug}", password="secret")
    row = ThrottleOverride.objects.get(org_id=org.id)
    form = {"scope": "org", "org_id": str(org.id), "rate_algorithm": "window", "rate_burst": 1}
    address = f"/admin/headrace_throttling/throttleoverride/{row.pk}/change/"
    seen = row.changed_at.isoformat()
    assert admin.post(address, {**form, "weight": "0.01", "seen": seen}).status_code == 302
    assert admit.policies().weight(org.id) == 0.01
    seen = ThrottleOverride.objects.get(org_id=org.id).changed_at.isoformat()
    refused = admin.post(address, {**form, "weight": "1000", "seen": seen})
    assert (refused.status_code, "0.01…100" in refused.content.decode()) == (200, True)


def test_a_tenant_that_changes_its_limits_keeps_the_weight_that_it_was_given(org: Organization, api_key: str) -> None:
    limits.put_limit(ThrottleOverride(scope="org", org_id=org.id, weight=0.5), by="operator")
    assert put(api_key, {"scope": "org", "concurrency": 7}).json()["weight"] == 0.5
    headers = {"authorization": f"Bearer {api_key}"}
    assert Client().delete("/api/limits?scope=org", headers=headers).status_code == 200
    row = ThrottleOverride.objects.get(scope="org", org_id=org.id)
    assert (row.weight, row.concurrency) == (0.5, None)


def test_a_stored_weight_out_of_bounds_is_read_as_the_nearest_and_doctor_tells(org: Organization, api_key: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ThrottleOverride.objects.create(scope="org", org_id=org.id, weight=1000)
    with transaction.atomic(), connection.cursor() as cursor:  # as a version before the bounds has stored it
        cursor.execute(
            "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conname='throttle_override_weight'"
        )
        definition, validated = cursor.fetchone()
        assert not validated
        cursor.execute("ALTER TABLE headrace_throttling_throttleoverride DROP CONSTRAINT throttle_override_weight")
        ThrottleOverride.objects.create(scope="org", org_id=org.id, weight=1000, changed_by="an old version")
        cursor.execute(
            f"ALTER TABLE headrace_throttling_throttleoverride ADD CONSTRAINT throttle_override_weight {definition}"
        )
    assert admit.snapshot().reload().weight(org.id) == 100.0
    out = StringIO()
    with contextlib.suppress(SystemExit):  # other tests may leave faults
        call_command("doctor", "--json", stdout=out)
    assert json.loads(out.getvalue())["weightsOutOfRange"] == 1
    assert put(api_key, {"scope": "org", "concurrency": 7}).json()["weight"] == 100.0


@pytest.mark.parametrize("base", [RetryPolicy(max_attempts=3, backoff=BackoffKind.FIXED, delay_ms=30_000)])
def test_an_override_that_was_taken_can_be_used_with_the_retries_of_every_type(
    org: Organization, api_key: str, base: RetryPolicy
) -> None:
    answer = put(api_key, {"scope": "type", "type": "noop", "retry": {"maxDelay": "1s"}})
    assert answer.status_code == 200, answer.content
    made = Override(scope="type", type="noop", max_delay_ms=1_000).retry(base)
    assert (made.delay_ms, made.max_delay_ms) == (1_000, 1_000)


@pytest.mark.parametrize(
    "retry",
    [{"attempts": True}, {"retries": True}, {"factor": True}, {"factor": float("nan")}, {"factor": float("inf")},
     {"attempts": 101}, {"attempts": 0}, {"delay": True}, {"delay": "99999d"}, {"delay": -1}],
)  # fmt: skip
def test_a_definition_with_a_number_that_is_none_is_refused(retry: dict[str, Any]) -> None:
    with pytest.raises(DefinitionProblems, match="retry"):
        parse({"flow": "f", "steps": [{"id": "a", "type": "noop", "retry": retry}]})


@pytest.mark.parametrize(
    ("name", "value"), [("CONCURRENCY", "²"), ("CONCURRENCY", "99999999999"), ("RATE_LIMIT_PERIOD_MS", "9" * 20)]
)
def test_a_number_of_the_environment_that_can_not_be_used_is_named(name: str, value: str) -> None:
    from throttling.environment import read_global_policy

    with pytest.raises(ThrottlingError, match=f"HEADRACE_GLOBAL_{name}"):
        read_global_policy({f"HEADRACE_GLOBAL_{name}": value})
