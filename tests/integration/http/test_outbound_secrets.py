"""A secret, and what is made of it, is shown nowhere: outputs, inputs, errors, logs, dead letters, fingerprints, alerts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.serializers.json import DjangoJSONEncoder

from dlq.alerting import evaluation
from dlq.models import Alert, DeadLetter, DeadLetterGroup
from tests.integration.http.test_outbound_state import call, keep_secret, oauth
from tests.support import peer as peers
from tests.support.peer import Peer
from workflows import presenters
from workflows.models import Attempt, Organization, Run, StepRun

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peers.serve() as running:
        yield running


def everything(org: Organization) -> str:
    """All that is stored of an organization's runs, as text, and what the workers logged."""
    evaluation.alert_of_failures()
    runs = Run.objects.filter(org_id=org.id)
    tables = [
        runs.values(),
        StepRun.objects.filter(run_id__in=runs.values("id")).values(),
        Attempt.objects.filter(
            step_run_id__in=StepRun.objects.filter(run_id__in=runs.values("id")).values("id")
        ).values(),
        DeadLetter.objects.filter(org_id=org.id).values(),
        DeadLetterGroup.objects.filter(org_id=org.id).values(),
        Alert.objects.filter(org_id=org.id).values(),
    ]
    stored = json.dumps([list(rows) for rows in tables], cls=DjangoJSONEncoder, ensure_ascii=False)
    logs = Path(os.environ["HEADRACE_VAR_DIR"]) / "log"
    ids = [str(run_id) for run_id in runs.values_list("id", flat=True)]
    lines = [
        line
        for path in logs.glob("test-*.log")
        for line in path.read_text(errors="replace").splitlines()
        if any(id_ in line for id_ in ids)
    ]
    return "\n".join([stored, *lines])


def test_a_secret_at_the_cut_of_an_error_is_masked(org: Organization, peer: Peer) -> None:
    keep_secret(org, "KEY", "begin-middle-end-of-it")
    for before in range(240, 480, 8):  # wherever the other headers end, the cut falls into the secret at some
        config = {"url": peer.url(f"/fail?before={before}"), "headers": {"x-key": "${ secrets.KEY }"}}
        step = call(org, config)
        assert step.step_run.status == "failed"
    text = everything(org)
    assert "***" in text
    for part in ("begin-", "middle", "begin-middle-end-of-it"):
        assert part not in text


def test_the_cut_keeps_as_much_as_before(org: Organization, peer: Peer) -> None:
    keep_secret(org, "KEY", "begin-middle-end-of-it")
    step = call(org, {"url": peer.url("/fail?before=600"), "headers": {"x-key": "${ secrets.KEY }"}})
    assert step.attempts[-1].error["message"] == f"127.0.0.1 answered 400: {'x' * 500}"


def test_basic_credentials_are_masked_in_every_form(org: Organization, peer: Peer) -> None:
    keep_secret(org, "PASSWORD", "p4ssw0rd:äß/?")
    derived = base64.b64encode("shop:p4ssw0rd:äß/?".encode()).decode()
    config = {"auth": {"type": "basic", "username": "shop", "password": "${ secrets.PASSWORD }"}}
    done = call(org, {"url": peer.url("/echo"), **config})
    assert peer.asked[-1].headers["authorization"] == f"Basic {derived}"
    call(org, {"url": peer.url("/fail"), **config})
    assert done.step_run.output["body"]["headers"]["authorization"] == "Basic ***"
    text = everything(org)
    assert derived not in text
    assert derived[8:20] not in text
    assert "p4ssw0rd" not in text


def test_credentials_within_an_address_are_masked(org: Organization, peer: Peer) -> None:
    keep_secret(org, "ADDRESS", f"http://shop:in-the-address@127.0.0.1:{peer.port}")
    done = call(org, {"url": "${ secrets.ADDRESS }/echo"})
    derived = base64.b64encode(b"shop:in-the-address").decode()
    assert peer.asked[-1].headers["authorization"] == f"Basic {derived}"
    assert done.step_run.output["body"]["headers"]["authorization"] == "Basic ***"
    call(org, {"url": "${ secrets.ADDRESS }/fail"})
    text = everything(org)
    assert derived not in text
    assert "in-the-address" not in text


def test_fetched_tokens_are_masked(org: Organization, peer: Peer) -> None:
    keep_secret(org, "CLIENT", "client-secret-value")
    config = oauth(peer, client_secret="${ secrets.CLIENT }")
    done = call(org, config, kind="oauth_api_call")
    assert peer.asked[-1].headers["authorization"] == "Bearer fetched-access-1"
    assert done.step_run.output["body"]["headers"]["authorization"] == "Bearer ***"
    call(org, {**config, "url": peer.url("/fail?before=460")}, kind="oauth_api_call")
    text = everything(org)
    for part in ("fetched-access", "rotated-refresh", "client-secret-value"):
        assert part not in text


def test_the_refusal_of_a_token_shows_no_client_credentials(org: Organization, peer: Peer) -> None:
    keep_secret(org, "CLIENT", "client-secret-value")
    keep_secret(org, "REFRESH", "refresh-token-value")
    derived = base64.b64encode(b"shop:client-secret-value").decode()
    for before in range(255, 300, 7):
        peer.refuses = "x" * before
        for more in ({}, {"client_auth": "body", "grant": "refresh_token", "refresh_token": "${ secrets.REFRESH }"}):
            config = oauth(peer, client_secret="${ secrets.CLIENT }", **more)
            step = call(org, config, kind="oauth_api_call")
            assert step.attempts[-1].error["category"] == "auth"
    text = everything(org)
    for part in (derived[:12], "client-secret-v", "refresh-token-v", "client-secr&"):
        assert part not in text


def test_a_secret_that_became_a_host_is_masked_in_lower_case(org: Organization) -> None:
    keep_secret(org, "TENANT", "Tenant-AbCdEf")
    step = call(org, {"url": "http://${ secrets.TENANT }.invalid/"})
    assert "can't be resolved" in step.attempts[-1].error["message"]
    call(org, {"url": "http://${ secrets.TENANT }.invalid/"}, timeout="5s")
    assert "tenant-abcdef" not in everything(org).lower()


def test_a_short_secret_does_not_tear_everything_up(org: Organization, peer: Peer) -> None:
    keep_secret(org, "PIN", "1")
    config = {"url": peer.url("/echo"), "headers": {"x-pin": "${ secrets.PIN }", "x-other": "2011"}}
    done = call(org, config)
    assert done.step_run.output["body"]["headers"]["x-other"] == "2011"
    assert done.attempts[-1].input["headers"]["x-pin"] == "***"
    assert presenters.step_out(done)["output"]["status"] == 200
