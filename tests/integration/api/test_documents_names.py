"""Names that other clients know: preset keys, the mode, `get_step_configuration`, the numbers of the report."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from config.env import read
from tests.support.workers import WorkerPool, run_to_end, shipped_policies
from throttling.errors import EnvironmentValueError
from workflows.errors import InvalidInput
from workflows.models import AccessKey, Organization, Secret
from workflows.selectors import limits
from workflows.selectors.step_configuration import get_step_configuration
from workflows.services import preset_keys

# --- keys of the environment --------------------------------------------------------------------------------------------


@pytest.fixture
def default(live_db: None) -> Iterator[Organization]:
    made, created = Organization.objects.get_or_create(slug="default", defaults={"name": "Default"})
    yield made
    AccessKey.objects.filter(organization=made).delete()
    Secret.objects.filter(organization=made).delete()
    if created:
        made.delete()


def preset(settings: Any, **keys: str) -> None:
    settings.HEADRACE = keys
    preset_keys.ship()


def test_preset_keys_open_events_and_rest(default: Organization, settings: Any) -> None:
    event, api = f"evt-{uuid.uuid4().hex}", f"api-{uuid.uuid4().hex}"
    settings.HEADRACE = {"INNGEST_DEV": False}
    client = Client(headers={"authorization": f"Bearer {api}"})
    body = {"name": "documents/sent", "data": {}}
    assert Client().post(f"/e/{event}", body, content_type="application/json").status_code == 401
    assert client.get("/api/workflows").status_code == 401
    preset(settings, INNGEST_EVENT_KEY=event, INNGEST_API_KEY=api)
    assert Client().post(f"/e/{event}", body, content_type="application/json").status_code == 200
    assert client.get("/api/workflows").status_code == 200
    assert AccessKey.objects.get(digest=AccessKey.digest_of(api)).operator
    preset(settings, INNGEST_EVENT_KEY=event, INNGEST_API_KEY=api)
    assert AccessKey.objects.filter(organization=default, name__startswith="INNGEST_").count() == 2


def test_a_changed_key_takes_the_place_of_the_one_before(default: Organization, settings: Any) -> None:
    first, second = f"api-{uuid.uuid4().hex}", f"api-{uuid.uuid4().hex}"
    preset(settings, INNGEST_API_KEY=first)
    preset(settings, INNGEST_API_KEY=second)
    for key, status in ((first, 401), (second, 200)):
        assert Client(headers={"authorization": f"Bearer {key}"}).get("/api/workflows").status_code == status
    preset(settings)  # no longer set: nothing is taken away unasked
    assert Client(headers={"authorization": f"Bearer {second}"}).get("/api/workflows").status_code == 200


def test_a_revoked_key_does_not_come_back_and_another_organizations_is_not_taken(
    default: Organization, org: Organization, settings: Any
) -> None:
    _, key = AccessKey.issue(org, AccessKey.Kind.API, "theirs")
    preset(settings, INNGEST_API_KEY=key)
    assert AccessKey.objects.get(digest=AccessKey.digest_of(key)).organization == org
    mine = f"api-{uuid.uuid4().hex}"
    preset(settings, INNGEST_API_KEY=mine)
    AccessKey.objects.filter(organization=default).update(revoked_at="2026-01-01T00:00:00Z")
    preset(settings, INNGEST_API_KEY=mine)
    assert Client(headers={"authorization": f"Bearer {mine}"}).get("/api/workflows").status_code == 401


def test_signing_keys_are_secrets(default: Organization, settings: Any) -> None:
    preset(settings, INNGEST_SIGNING_KEY="signkey-one", INNGEST_WEBHOOK_KEY="whsec-one")
    preset(settings, INNGEST_SIGNING_KEY="signkey-two", INNGEST_WEBHOOK_KEY="whsec-one")
    found = {row.name: row.value for row in Secret.objects.filter(organization=default)}
    assert found == {"INNGEST_SIGNING_KEY": "signkey-two", "INNGEST_WEBHOOK_KEY": "whsec-one"}


@pytest.mark.parametrize("name", ["INNGEST_EVENT_KEY", "INNGEST_API_KEY", "INNGEST_SIGNING_KEY", "INNGEST_WEBHOOK_KEY"])
def test_a_key_that_can_not_be_used_says_what_to_give(name: str) -> None:
    with pytest.raises(EnvironmentValueError, match=f"{name} can't be used: give 8 to 500 characters"):
        read({name: "short"})
    if name in {"INNGEST_EVENT_KEY", "INNGEST_API_KEY"}:
        with pytest.raises(EnvironmentValueError, match="letters, digits"):
            read({name: "with/a slash in it"})


@pytest.mark.parametrize(
    ("value", "mode"), [("", None), ("true", True), ("1", True), ("0", False), ("http://localhost:8288", True)]
)
def test_the_mode(value: str, mode: bool | None) -> None:
    assert read({"INNGEST_DEV": value}).dev is mode


def test_a_mode_that_is_none_says_what_to_set() -> None:
    with pytest.raises(EnvironmentValueError, match="INNGEST_DEV='perhaps' is not a switch"):
        read({"INNGEST_DEV": "perhaps"})


# --- the getter ---------------------------------------------------------------------------------------------------------


def test_the_documents_own_assertions(live_db: None) -> None:
    with shipped_policies():
        api = get_step_configuration({"type": "http_request", "config": {}})
        assert (api["concurrency"], api["rateLimit"]["maxExecutions"]) == (5, 10)
        light = get_step_configuration({"type": "data_transform", "config": {}})
        assert (light["concurrency"], light["rateLimit"]["maxExecutions"]) == (15, 50)
        critical = get_step_configuration(
            {"id": "pay", "type": "http_request", "config": {"critical": True, "url": "x"}}
        )
    assert api == {
        "concurrency": 5,
        "rateLimit": {"maxExecutions": 10, "perMilliseconds": 10_000},
        "retry": {"maxAttempts": 3, "backoff": {"type": "exponential", "delay": 3_000}},
    }
    assert (critical["concurrency"], critical["retry"]["maxAttempts"]) == (2, 5)


def test_an_override_of_the_step_counts(live_db: None) -> None:
    override = {
        "concurrency": 1,
        "rateLimit": {"maxExecutions": 5, "perMilliseconds": 60_000},
        "retry": {"maxAttempts": 4, "backoff": {"type": "fixed", "delay": 700}},
    }
    with shipped_policies():
        found = get_step_configuration({"type": "sandbox_sync", "config": {"throttlingOverride": override}})
    assert found == override


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"type": "teleport"}, "is no step type"),
        ({}, "is no step type"),
        ({"type": "noop", "config": 3}, "must be an object"),
        ({"type": "noop", "config": {"throttlingOverride": {"concurrency": 0}}}, "concurrency"),
        ({"type": "noop", "config": {"throttlingOverride": 3}}, "must be an object"),
    ],
)
def test_a_step_that_can_not_be_read_says_why(live_db: None, step: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        get_step_configuration(step)


# --- the report ---------------------------------------------------------------------------------------------------------


def test_the_report_has_one_type_for_each_field(org: Organization, workers: WorkerPool, api_key: str) -> None:
    run_to_end(org, [{"id": "a", "type": "noop"}, {"id": "b", "type": "sandbox_sync", "config": {"code": "1"}}])
    answer = Client(headers={"authorization": f"Bearer {api_key}"}).get("/api/limits/report")
    rows = json.loads(answer.content)
    assert {row["stepType"] for row in rows} == {"noop", "sandbox_sync"}
    for row in rows:
        kinds = {name: type(value) for name, value in row.items()}
        assert kinds == {
            "stepType": str, "tries": int, "averageThrottlingOverhead": float, "p95ThrottlingOverhead": float,
            "longestThrottlingOverhead": float, "totalOverhead": float, "averageDuration": float, "failedTries": int,
        }  # fmt: skip
    assert {type(value) for row in limits.report(org) for value in row.values()} == {str, int, float}
