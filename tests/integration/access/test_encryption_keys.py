"""Encryption keys that are rotated while runs are open, and keys that are lost."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from django.core.management import call_command

from dlq.models import AlertChannel
from tests.integration.access.known_secrets import afresh, forget  # noqa: F401  (a fixture)
from tests.integration.http.test_outbound_state import keep_secret
from tests.support.workers import await_end, by_key, publish
from workflows import services
from workflows.engine.state.secret_sources import secrets_of
from workflows.errors import ConfigurationFailure
from workflows.models import OAuthCredential, Organization, Secret, encryption
from workflows.services.access import secrets
from workflows.steps.http import oauth
from workflows.this_process import configuration as told


def keys(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on this process has these encryption keys, the newest first."""
    monkeypatch.setattr(encryption, "encryption_keys", lambda: names)
    forget()


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
