"""Secrets from database, environment and AWS."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from moto import mock_aws

from config import aws as settings_of_aws
from config import env
from tests.integration.access.known_secrets import afresh, forget  # noqa: F401  (a fixture)
from tests.integration.http.test_outbound_state import keep_secret
from throttling.errors import EnvironmentValueError
from workflows import this_process
from workflows.edge import aws
from workflows.engine.state import secret_sources
from workflows.engine.state.secret_sources import AwsSecrets, SecretValues, secrets_of, value_of
from workflows.errors import ConfigurationFailure, InvalidInput
from workflows.models import Organization
from workflows.selectors.pages.schedules import missing_secrets
from workflows.services.access import secrets
from workflows.this_process import configuration as told


def prefix(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    changed = dataclasses.replace(told.configuration(), aws_secrets_prefix=text)
    monkeypatch.setattr(secret_sources, "configuration", lambda: changed)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """AWS Secrets Manager, within this process."""
    for name, text in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(name, text)
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-west-1")


# --- sources --------------------------------------------------------------------------------------------------------


def test_the_database_comes_first_then_the_environment_then_aws(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix(monkeypatch, "headrace/")
    keep_secret(org, "A", "of-database")
    part = told.variable_part(org.slug)
    for name in "AB":
        monkeypatch.setenv(f"HEADRACE_SECRET_{part}__{name}", "of-environment")
    manager.create_secret(
        Name=f"headrace/{org.slug}", SecretString=json.dumps({name: f"of-aws-{name}" for name in "ABC"})
    )
    values, masked = secrets_of(org.id)
    assert dict(values) == {"A": "of-database", "B": "of-environment", "C": "of-aws-C"}
    assert masked.mask("x of-aws-C of-environment") == "x *** ***"
    assert [value_of(org.id, name) for name in "ABCD"] == ["of-database", "of-environment", "of-aws-C", None]


def test_a_secret_of_any_source_is_not_said_to_be_missing(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secret(org, "A", "of-database")
    monkeypatch.setenv(f"HEADRACE_SECRET_{told.variable_part(org.slug)}__B", "of-environment")
    prefix(monkeypatch, "headrace/")
    manager.create_secret(Name=f"headrace/{org.slug}", SecretString='{"C": "of-aws"}')
    assert missing_secrets(org, {"A", "B", "C", "D"}) == {"D"}
    forget()
    monkeypatch.setattr(AwsSecrets, "read", _away)
    assert missing_secrets(org, {"A", "B", "C", "D"}) == set(), "nobody can tell"


def _away(*_: Any) -> Any:
    raise ConfigurationFailure("AWS does not answer.")


def test_an_organization_has_only_its_own(
    org: Organization, other: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HEADRACE_SECRET_{told.variable_part(org.slug)}__KEY", "a-value")
    assert dict(secrets_of(other.id)[0]) == {}
    Organization.objects.create(slug=org.slug.replace("-", "_"), name="Twin")
    with pytest.raises(ConfigurationFailure, match="several organizations"):
        secrets_of(org.id)[0]["KEY"]


def test_a_changed_value_comes_once_the_kept_one_is_old(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix(monkeypatch, "headrace/")
    name = f"headrace/{org.slug}"
    manager.create_secret(Name=name, SecretString='{"KEY": "first-value"}')
    assert secrets_of(org.id)[0]["KEY"] == "first-value"
    manager.put_secret_value(SecretId=name, SecretString='{"KEY": "second-value"}')
    this_process.forget(SecretValues)
    assert secrets_of(org.id)[0]["KEY"] == "first-value"
    monkeypatch.setattr(secret_sources, "KEPT_OF_AWS_S", -1.0)
    this_process.forget(SecretValues)
    assert secrets_of(org.id)[0]["KEY"] == "second-value"
    assert secret_sources.KEPT_S <= 60


def test_while_aws_is_away_the_last_values_do_for_a_while(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix(monkeypatch, "headrace/")
    manager.create_secret(Name=f"headrace/{org.slug}", SecretString='{"KEY": "last-value"}')
    assert secrets_of(org.id)[0]["KEY"] == "last-value"

    def away(*_: Any) -> None:
        raise aws.AwsUnavailable

    monkeypatch.setattr(aws, "read_secret", away)
    monkeypatch.setattr(secret_sources, "KEPT_OF_AWS_S", -1.0)
    this_process.forget(SecretValues)
    assert secrets_of(org.id)[0]["KEY"] == "last-value"
    monkeypatch.setattr(secret_sources, "STALE_S", -1.0)
    this_process.forget(SecretValues)
    with pytest.raises(ConfigurationFailure, match="AWS Secrets Manager"):
        secrets_of(org.id)[0]["KEY"]


def test_an_outage_is_asked_about_once_in_a_while_and_holds_up_no_other_secret(
    manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create_secret(Name="there", SecretString='{"KEY": "a-value"}')
    kept, asked = AwsSecrets(), []
    read, begun, go_on = aws.read_secret, threading.Event(), threading.Event()

    def slow(name: str, by: Any = None) -> dict[str, str] | None:
        asked.append(name)
        if name == "there":
            return read(name, by)
        begun.set()
        assert go_on.wait(30)
        raise aws.AwsUnavailable

    monkeypatch.setattr(aws, "read_secret", slow)
    with ThreadPoolExecutor(3) as threads:
        away = [threads.submit(kept.read, "away") for _ in range(2)]
        assert begun.wait(30)
        try:
            assert threads.submit(kept.read, "there").result(30) == {"KEY": "a-value"}
        finally:
            go_on.set()
        assert [type(each.exception(30)) for each in away] == [aws.AwsUnavailable] * 2
    for _ in range(3):
        with pytest.raises(aws.AwsUnavailable):
            kept.read("away")
    assert asked.count("away") == 1
    monkeypatch.setattr(secret_sources, "KEPT_S", -1.0)
    for _ in range(2):
        kept._kept["away"].retry_at = 0.0
        with pytest.raises(aws.AwsUnavailable):
            kept.read("away")
    assert asked.count("away") == 3


def test_while_old_values_do_aws_is_not_asked_at_each_step(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.create_secret(Name="there", SecretString='{"KEY": "a-value"}')
    kept, asked = AwsSecrets(), []
    assert kept.read("there") == {"KEY": "a-value"}

    def away(name: str, *_: Any) -> None:
        asked.append(name)
        raise aws.AwsUnavailable

    monkeypatch.setattr(aws, "read_secret", away)
    monkeypatch.setattr(secret_sources, "KEPT_OF_AWS_S", -1.0)
    assert [kept.read("there") for _ in range(4)] == [{"KEY": "a-value"}] * 4
    assert asked == ["there"]


@pytest.mark.parametrize("text", ["no json", "[]", '{"A": 1}'])
def test_an_aws_secret_of_another_form_is_named(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    prefix(monkeypatch, "headrace/")
    manager.create_secret(Name=f"headrace/{org.slug}", SecretString=text)
    with pytest.raises(ConfigurationFailure, match=f"headrace/{org.slug} is no JSON object") as caught:
        secrets_of(org.id)[0]["KEY"]
    assert text not in str(caught.value).replace("no JSON", "")


def test_a_name_that_no_secret_has_is_said_where_it_is_asked_for(
    org: Organization, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix(monkeypatch, "headrace/")
    manager.create_secret(
        Name=f"headrace/{org.slug}", SecretString=json.dumps({"not a name": "x", "GOOD": "good-value"})
    )
    values = secrets_of(org.id)[0]
    assert values["GOOD"] == "good-value"
    with pytest.raises(ConfigurationFailure, match="from the AWS secret"):
        values["not a name"]


# --- settings of one secret -----------------------------------------------------------------------------------------


def test_settings_come_from_one_secret_under_the_environment(manager: Any) -> None:
    manager.create_secret(
        Name="all", SecretString=json.dumps({"DATABASE_URL": "postgresql:///x", "HEADRACE_LOG_LEVEL": "DEBUG"})
    )
    given = {"HEADRACE_AWS_SECRET": "all", "HEADRACE_LOG_LEVEL": "ERROR"}
    settings_of_aws.load(given)
    read = env.read(given)
    assert (read.database_url, read.log_level) == ("postgresql:///x", "ERROR")
    manager.delete_secret(SecretId="all", ForceDeleteWithoutRecovery=True)
    settings_of_aws.load(given)  # it was read: children have it


@pytest.mark.parametrize("content", [None, "[]", '{"lower": "x"}', '{"A-B": "x"}'])
def test_a_secret_without_settings_ends_the_start_with_its_name(manager: Any, content: str | None) -> None:
    if content is not None:
        manager.create_secret(Name="all", SecretString=content)
    with pytest.raises(EnvironmentValueError, match="HEADRACE_AWS_SECRET='all'"):
        settings_of_aws.load({"HEADRACE_AWS_SECRET": "all"})


def test_rules_for_secrets_hold_for_the_verb_too(org: Organization) -> None:
    for name, value in (("1x", "a-value"), ("GOOD", " "), ("GOOD", "x\0y")):
        with pytest.raises(InvalidInput):
            secrets.set_secret(org, name, value)
    assert secrets.set_secret(org, "GOOD", "a-value").value == "a-value"
    assert secrets.set_secret(org, "GOOD", "b-value").value == "b-value"
    with pytest.raises(secrets.SecretNotFound):
        secrets.delete_secret(org, "OTHER")


def test_a_variable_that_two_organizations_may_mean_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"s{uuid.uuid4().hex[:8]}"
    short = Organization.objects.create(slug=mark, name="short")
    longer = Organization.objects.create(slug=f"{mark}--eu", name="longer")
    monkeypatch.setenv(f"HEADRACE_SECRET_{told.variable_part(mark)}__EU__STRIPE_KEY", "of-the-longer-one")
    for org in (short, longer):
        values, _ = secrets_of(org.id)
        assert not {"EU__STRIPE_KEY", "STRIPE_KEY"} & values.keys(), org
        assert "several organizations" in values.failed_sources[0]
