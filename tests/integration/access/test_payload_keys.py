"""Encryption of payloads: switched on and off, keys that are rotated and lost, forged tokens, exports."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone

from dlq.models import DeadLetter
from tests.integration.access.marked import ECHO, FAILS, first_run, have, have_all, places_of, start, stored
from tests.integration.access.test_keys import issued
from tests.support import by_hand
from tests.support.workers import await_end, await_that, by_key, publish
from workflows import services
from workflows.definitions.validate import DefinitionProblems
from workflows.engine.events import matching
from workflows.engine.pipeline import perform, record
from workflows.engine.state.records import StepResult
from workflows.errors import EncryptionKeyMissing
from workflows.models import AccessKey, Event, Flow, Organization, Run
from workflows.sealing import envelope
from workflows.services import repair
from workflows.services.access import payloads
from workflows.services.retention import pruning
from workflows.services.retention.importing import import_runs
from workflows.steps.outcome import Failed
from workflows.this_process import configuration as told

LONG = dt.timedelta(days=90)


def test_what_was_stored_before_is_encrypted_and_decrypted_again(org: Organization, workers: Any, mark: str) -> None:
    items = [{"id": "all", "type": "map", "config": {"items": ["${ input.word }"]}, "steps": [ECHO]}, FAILS]
    run_id = start(org, items, {"word": mark})
    before = await_end(org, run_id)
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id).exists(), what="the dead letter")
    there = places_of(mark)
    assert there
    call_command("secret", "encrypt-payloads", "--org", org.slug, stdout=io.StringIO())
    assert places_of(mark) == set()
    counted = payloads.count(org)
    assert counted.by_key.keys() - {""} == {envelope.keys().current()[0].name}
    after = await_end(org, run_id)
    assert (after.run.input, after.run.error) == (before.run.input, before.run.error)
    assert by_key(after)["all"].step_run.output == by_key(before)["all"].step_run.output
    call_command("secret", "decrypt-payloads", "--org", org.slug, stdout=io.StringIO())
    assert places_of(mark) == there
    assert payloads.count(org).by_key.keys() == {""}


def test_payloads_are_written_anew_with_the_newest_key(
    org: Organization, workers: Any, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(org, [ECHO], {"word": mark})
    await_end(org, run_id)
    payloads.switch_to(org, on=True)
    payloads.rewrite(org)
    now = told.encryption_keys()
    have(monkeypatch, "newer", *now)
    newest = envelope.keys().current()[0].name
    assert newest not in payloads.count(org).by_key
    payloads.rotate()
    assert payloads.count(org).by_key.keys() - {""} == {newest}
    have(monkeypatch, "newer")
    assert Run.objects.get(id=run_id).input == {"word": mark}
    have(monkeypatch, *now, "newer")
    payloads.rotate()
    payloads.switch_to(org, on=False)
    payloads.rewrite(org)


def test_a_lost_key_is_named_and_stops_its_own_runs_only(
    org: Organization, other: Organization, published: list[Any], mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is this process."""
    steps = [ECHO, {"id": "next", "type": "noop", "config": {"output": "${ steps.echo.output.again }"}}]
    run_id = start(org, steps, {"word": mark})
    bystander = start(other, steps, {"word": mark})
    payloads.switch_to(org, on=True)
    payloads.rewrite(org)
    (name,) = envelope.key_names(stored("headrace_workflows_run", "input", id=run_id)[0])
    have(monkeypatch, "another")
    visits = perform.open_visits([by_hand.claim(run_id, "echo"), by_hand.claim(bystander, "echo")])
    lost, fine = (perform.render(visit) for visit in visits)
    assert isinstance(lost, StepResult)
    assert isinstance(lost.outcome, Failed)
    assert lost.outcome.error.category == "configuration"
    assert name in lost.outcome.error.message
    assert "HEADRACE_ENCRYPTION_KEYS_OLD" in lost.outcome.error.message
    assert isinstance(fine, perform.RenderedStep)
    record.record([lost])
    assert Run.objects.get(id=run_id).status == "failed"
    _, api = issued(org)
    shown = api.get(f"/runs/{run_id}")
    assert shown.status_code == 200
    assert name in json.dumps(shown.json()["input"])
    with pytest.raises(EncryptionKeyMissing, match=name):
        repair.replay(org, run_id, by="anna")
    assert payloads.count(org).unreadable_count > 0
    have_all(monkeypatch)
    assert Run.objects.get(id=run_id).input == {"word": mark}
    payloads.switch_to(org, on=False)
    payloads.rewrite(org)


def test_an_event_whose_key_is_lost_is_not_taken_for_one_that_starts_nothing(
    org: Organization, workers: Any, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, [ECHO], slug="late", on={"event": "late/word", "if": "event.data.word.startsWith('open')"})
    event = Event(org_id=org.id, name="late/word", data={"word": mark}, ts=timezone.now())
    payloads.switch_to(org, on=True)
    event.save()
    payloads.switch_to(org, on=False)
    have(monkeypatch, "another")
    matching.match([event.id])
    assert Event.objects.get(id=event.id).matched_at is None
    have_all(monkeypatch)
    matching.match([event.id])
    assert first_run(org, "late").run.input == {"word": mark}


@pytest.mark.parametrize("as_text", [False, True])
def test_what_looks_sealed_is_not_published(org: Organization, mark: str, as_text: bool) -> None:
    """Definitions are read by the connections that open payloads: it would come out as the output of a step."""
    stolen = {"word": envelope.seal_text(mark)} if as_text else envelope.seal_value({"word": mark})
    with pytest.raises(DefinitionProblems, match="encrypted payloads"):
        publish(org, [{"id": "same", "type": "noop", "config": {"output": stolen}}], slug="thief")
    assert not Flow.objects.filter(organization=org).exists()


def test_what_looks_sealed_comes_back_as_it_was_sent_and_opens_nothing(
    org: Organization, other: Organization, workers: Any, mark: str
) -> None:
    """A tenant that has got hold of another one's rows sends them as its own, without encryption and with it."""
    stolen, text = envelope.seal_value({"word": mark}), envelope.seal_text(mark)
    data = {"word": "a", "value": stolen, "list": [stolen, {"message": text}], "message": text, "$enc": stolen["$enc"]}
    key = AccessKey.issue(org, "event", "shop")[1]
    publish(org, [{"id": "same", "type": "noop", "config": {"output": "${ input }"}}], slug="same", on={"event": "a/b"})
    sent = {"name": "a/b", "data": data, "user": {"id": "1", "name": text}}
    assert Client().post(f"/e/{key}", json.dumps(sent), content_type="text/plain").status_code == 200
    detail = first_run(org, "same")
    assert detail.run.input == data
    assert by_key(detail)["same"].step_run.output == data
    assert Event.objects.get(org_id=org.id).user["name"] == text
    run_id = start(org, [{"id": "same", "type": "noop", "config": {"output": "${ input }"}}], stolen)
    assert by_key(await_end(org, run_id))["same"].step_run.output == stolen
    whole = [
        {
            "id": "fails",
            "type": "data_transform",
            "config": {"expression": "int(input.message)"},
            "retry": {"attempts": 1},
        }
    ]
    failed = await_end(org, start(org, whole, {"message": text}))
    assert mark not in json.dumps(failed.run.error)
    letter = await_that(lambda: DeadLetter.objects.filter(run_id=failed.run.id).first(), what="the dead letter")
    assert mark not in letter.error_message


@pytest.mark.parametrize("clear", [False, True])
def test_runs_are_exported_encrypted_or_in_clear_and_come_back_encrypted(
    clear: bool, org: Organization, workers: Any, mark: str, tmp_path: Path
) -> None:
    payloads.switch_to(org, on=True)
    payloads.wait_until_known()
    run_id = start(org, [ECHO], {"word": mark, "looks": envelope.seal_value(mark)})
    before = await_end(org, run_id)
    Run.objects.filter(id=run_id).update(created_at=F("created_at") - LONG, ended_at=F("ended_at") - LONG)
    request = pruning.Request(
        organizations=[org], subjects=["completed"], older_than="1h", export=tmp_path, clear=clear
    )
    pruning.prune(request)
    assert not Run.objects.filter(id=run_id).exists()
    (file,) = tmp_path.iterdir()
    assert (mark in gzip.decompress(file.read_bytes()).decode()) is clear
    import_runs(org, file)
    after = await_end(org, run_id)
    assert after.run.input == before.run.input
    assert by_key(after)["echo"].step_run.output == by_key(before)["echo"].step_run.output
    assert places_of(mark) == set()
    payloads.switch_to(org, on=False)


def test_a_key_that_a_flow_has_computed_stands_for_its_run_after_the_switch(
    org: Organization, published: list[Any], mark: str
) -> None:
    slug = publish(org, [ECHO], slug="keyed", idempotency={"key": "input.word"})
    first = services.trigger(org, slug, {"word": mark}).run_ids
    assert "headrace_workflows_idempotencykey.key" in places_of(mark)
    payloads.switch_to(org, on=True)
    assert "headrace_workflows_idempotencykey.key" not in places_of(mark)
    assert services.trigger(org, slug, {"word": mark}).run_ids == first
    other_one = services.trigger(org, slug, {"word": f"{mark}2"}).run_ids
    payloads.switch_to(org, on=False)
    assert services.trigger(org, slug, {"word": mark}).run_ids == first
    assert services.trigger(org, slug, {"word": f"{mark}2"}).run_ids == other_one
    assert places_of(mark) == {"headrace_workflows_run.input"}, "of before: nobody has rewritten it"


def test_a_key_taken_while_the_organization_is_switched_gives_one_run(
    org: Organization, published: list[Any], mark: str
) -> None:
    """Another process holds the key's old form in a transaction that is open."""
    slug = publish(org, [ECHO], slug="keyed", idempotency={"key": "input.word"})
    switched = threading.Event()

    def switch() -> None:
        payloads.switch_to(Organization.objects.get(id=org.id), on=True)
        switched.set()
        connection.close()

    with transaction.atomic():
        first = services.trigger(org, slug, {"word": mark}).run_ids
        thread = threading.Thread(target=switch)
        thread.start()
        assert not switched.wait(0.3), "it waits for whoever takes keys"
    thread.join()
    assert services.trigger(org, slug, {"word": mark}).run_ids == first
    payloads.switch_to(org, on=False)
