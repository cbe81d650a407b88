"""Secrets from database, environment and AWS; keys that are rotated while runs are open, and keys that are lost."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from django.core.management import call_command
from moto import mock_aws

from config import aws as settings_of_aws
from config import env
from dlq.models import AlertChannel
from tests.integration.http.test_outbound_state import keep_secret
from tests.support.workers import await_end, by_key, publish
from throttling.errors import EnvironmentValueError
from workflows import services, this_process
from workflows.edge import aws
from workflows.engine.state import secret_sources
from workflows.engine.state.secret_sources import AwsSecrets, SecretValues, secrets_of, value_of
from workflows.errors import ConfigurationFailure, InvalidInput
from workflows.models import OAuthCredential, Organization, Secret, encryption
from workflows.selectors.pages.schedules import missing_secrets
from workflows.services.access import secrets
from workflows.steps.http import oauth
from workflows.this_process import configuration as told


def keys(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on this process has these encryption keys, the newest first."""
    monkeypatch.setattr(encryption, "encryption_keys", lambda: names)
    forget()


def prefix(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    changed = dataclasses.replace(told.configuration(), aws_secrets_prefix=text)
    monkeypatch.setattr(secret_sources, "configuration", lambda: changed)


def forget() -> None:
    this_process.forget(SecretValues)
    this_process.forget(AwsSecrets)


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    forget()
    yield
    forget()


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


# --- encryption keys ------------------------------------------------------------------------------------------------


def test_everything_encrypted_is_read_with_any_key_and_written_with_the_newest(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told.encryption_keys()
    keep_secret(org, "KEY", "the-value")
    channel = AlertChannel(name=f"c-{org.slug}", org_id=org.id, enabled=False)
    channel.url = "json://127.0.0.1:1/token"
    channel.save()
    tokens = OAuthCredential.objects.create(
        organization=org, identity="x" * 64, refresh_token=encryption.encrypt("refresh"), used_at=channel_time()
    )
    keys(monkeypatch, "new", *before)
    assert secrets_of(org.id)[0]["KEY"] == "the-value"
    call_command("secret", "rotate", stdout=io.StringIO())
    keys(monkeypatch, "new")
    assert Secret.objects.get(organization=org).value == "the-value"
    assert AlertChannel.objects.get(id=channel.id).url == "json://127.0.0.1:1/token"
    tokens.refresh_from_db()
    assert encryption.decrypt(bytes(tokens.refresh_token or b""), "it") == "refresh"
    again = secrets.rotate()
    assert (again.rotated, again.unreadable_count) == (0, 0)
    keys(monkeypatch, *before, "new")  # for the tests that follow
    assert secrets.rotate().rotated >= 3


def channel_time() -> Any:
    from django.utils import timezone

    return timezone.now()


def test_a_rotation_that_is_cut_off_goes_on_and_names_what_no_key_opens(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told.encryption_keys()
    monkeypatch.setattr(secrets, "BATCH", 2)
    for number in range(5):
        keep_secret(org, f"KEY_{number}", f"value-{number}")
    lost = Secret.objects.get(organization=org, name="KEY_3")
    keys(monkeypatch, "lost")
    lost.value = "gone"
    lost.save()
    keys(monkeypatch, "new", *before)
    count = []

    def cut(done: int) -> None:
        count.append(done)
        if len(count) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        secrets.rotate(cut)
    result = secrets.rotate()
    assert result.newest >= 1
    assert result.unreadable_count == 1
    assert f"{lost.pk}" in result.unreadable[0]
    assert secrets.look().unreadable_count == 1
    values = secrets_of(org.id)[0]
    assert [values[f"KEY_{number}"] for number in (0, 1, 2, 4)] == ["value-0", "value-1", "value-2", "value-4"]
    with pytest.raises(ConfigurationFailure, match="HEADRACE_ENCRYPTION_KEYS_OLD"):
        values["KEY_3"]
    with pytest.raises(SystemExit):
        call_command("secret", "rotate", stdout=io.StringIO())
    lost.delete()
    keys(monkeypatch, *before, "new")
    secrets.rotate()


def test_stored_tokens_are_found_under_the_key_of_before(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "encryption_keys", lambda: ("old",))
    row = OAuthCredential.objects.create(
        organization=org, identity=oauth._keyed("what"), refresh_token=b"x", access_token=b"y", used_at=channel_time()
    )
    monkeypatch.setattr(oauth, "encryption_keys", lambda: ("new", "old"))
    newest, *older = oauth._keyed_by_all("what")
    for _ in range(2):
        oauth._adopt((org.id, newest), older)
        row.refresh_from_db()
        assert (row.identity, bytes(row.refresh_token or b""), row.access_token) == (newest, b"x", None)


def test_doctor_counts_what_is_under_old_keys_and_under_none(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told.encryption_keys()
    keep_secret(org, "KEY", "the-value")
    keys(monkeypatch, "other")
    lost = Secret(organization=org, name="LOST")
    lost.value = "x-value"
    lost.save()
    keys(monkeypatch, "new", *before)
    out = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", "--json", stdout=out)
    found = json.loads(out.getvalue())
    assert found["unreadableSecrets"] >= 1
    assert found["secretsUnderOldKeys"] >= 1
    assert any(str(lost.pk) in row for row in found["unreadable"])
    lost.delete()


def test_rules_for_secrets_hold_for_the_verb_too(org: Organization) -> None:
    for name, value in (("1x", "a-value"), ("GOOD", " "), ("GOOD", "x\0y")):
        with pytest.raises(InvalidInput):
            secrets.set_secret(org, name, value)
    assert secrets.set_secret(org, "GOOD", "a-value").value == "a-value"
    assert secrets.set_secret(org, "GOOD", "b-value").value == "b-value"
    with pytest.raises(secrets.SecretNotFound):
        secrets.delete_secret(org, "OTHER")


@pytest.mark.usefixtures("workers")
def test_open_runs_go_on_over_a_rotation_and_a_lost_key_fails_its_step_alone(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers have the key of before; what was written under another one, they can't read."""
    keep_secret(org, "GOOD", "good-value")
    keep_secret(org, "LOST", "lost-value")
    step = {"type": "http_request", "retry": {"attempts": 1}}

    def asks(name: str) -> dict[str, Any]:
        return {
            **step,
            "id": name.lower(),
            "config": {"url": "http://127.0.0.1:1/", "headers": {"x": f"${{ secrets.{name} }}"}},
        }

    flows = {"good": asks("GOOD"), "gone": asks("LOST"), "plain": {"id": "plain", "type": "noop"}}
    for slug, each in flows.items():
        publish(org, [each], slug=slug)
    before = told.encryption_keys()
    runs = [services.trigger(org, slug, delay="2s").run_ids[0] for slug in flows]
    keys(monkeypatch, "elsewhere", *before)
    lost = Secret.objects.get(organization=org, name="LOST")
    lost.value = "lost-value"
    lost.save()
    good, gone, plain = (next(iter(by_key(await_end(org, run_id)).values())) for run_id in runs)
    lost.delete()
    assert plain.step_run.status == "completed"
    assert gone.attempts[-1].error["category"] == "configuration"
    assert "HEADRACE_ENCRYPTION_KEYS_OLD" in gone.attempts[-1].error["message"]
    assert "127.0.0.1" in good.attempts[-1].error["message"]  # it had its secret, and was not let to a private address


def test_a_variable_that_two_organizations_may_mean_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"s{uuid.uuid4().hex[:8]}"
    short = Organization.objects.create(slug=mark, name="short")
    longer = Organization.objects.create(slug=f"{mark}--eu", name="longer")
    monkeypatch.setenv(f"HEADRACE_SECRET_{told.variable_part(mark)}__EU__STRIPE_KEY", "of-the-longer-one")
    for org in (short, longer):
        values, _ = secrets_of(org.id)
        assert not {"EU__STRIPE_KEY", "STRIPE_KEY"} & values.keys(), org
        assert "several organizations" in values.failed_sources[0]
