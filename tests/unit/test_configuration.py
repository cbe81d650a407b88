"""What Headrace is told: by the project's settings, then by the environment."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from throttling.errors import EnvironmentValueError
from workflows.edge.extras import MissingExtra, extra
from workflows.this_process import configuration as told
from workflows.this_process.configuration import configuration


def test_the_projects_settings_win_over_the_environment(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    monkeypatch.setenv("HEADRACE_PUBLIC_URL", "https://environment.example")
    settings.HEADRACE = {"REDIS_URL": "redis://settings", "STEP_EVENTS": False, "GATE_LEASE_S": 20,
                         "ALLOWED_PRIVATE_HOSTS": ["a", "b:80"], "ALERT_URLS": ("json://a", "json://b")}  # fmt: skip
    found = configuration()
    assert (found.redis_url, found.broker_url, found.public_url) == (
        "redis://settings", "redis://settings", "https://environment.example",
    )  # fmt: skip
    assert (found.step_events, found.gate_lease_s) == (False, 20.0)
    assert found.allowed_private_hosts == ("a", "b:80")
    assert found.alert_urls == ("json://a", "json://b")
    settings.HEADRACE = {"REDIS_URL": "redis://other"}
    assert configuration().redis_url == "redis://other"


def test_a_value_that_can_not_be_used_names_its_variable(settings: Any) -> None:
    settings.HEADRACE = {"PUBLIC_URL": "shop"}
    with pytest.raises(EnvironmentValueError, match="HEADRACE_PUBLIC_URL='shop' is no address"):
        configuration()


def test_an_encryption_key_that_could_not_become_an_old_one_is_refused(settings: Any) -> None:
    settings.HEADRACE = {"ENCRYPTION_KEY": "first,second"}
    with pytest.raises(EnvironmentValueError, match="HEADRACE_ENCRYPTION_KEY holds a comma") as caught:
        configuration()
    assert "first" not in str(caught.value)
    settings.HEADRACE = {"ENCRYPTION_KEY": "newest", "ENCRYPTION_KEYS_OLD": "first,second"}
    assert told.encryption_keys() == ("newest", "first", "second")


def test_a_name_that_there_is_not_stops_the_start(settings: Any) -> None:
    settings.HEADRACE = {"REDIS": "redis://a"}
    with pytest.raises(ImproperlyConfigured, match="knows no REDIS; it knows ALERT_URLS"):
        told.export()


def test_what_modules_read_themselves_gets_into_the_environment_and_no_variable_of_others(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: dict[str, str] = {}
    monkeypatch.setattr("workflows.this_process.configuration.os.environ", exported)
    settings.HEADRACE = {"IO_SLOTS": 7, "REDIS_URL": "redis://a", "CELERY": {"worker_concurrency": 2}}
    told.export()
    assert exported == {"HEADRACE_IO_SLOTS": "7"}
    assert told.celery_settings() == {"worker_concurrency": 2}


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"needs the package no_such_package.*pip install 'headrace\[alerts\]'"):
        extra("no_such_package.module", "alerts")
    assert extra("json", "alerts").dumps({}) == "{}"
