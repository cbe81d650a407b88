"""Payloads that are stored encrypted: a marked value goes through every kind of flow, and no column of the database has it.

That everything else is as it is in clear the other tests show: they pass with HEADRACE_ENCRYPT_PAYLOADS=1, too.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.test import Client
from pytest_httpserver import HTTPServer

from config.asgi import application  # noqa: F401  (the whole site is loaded)
from dlq import services as letters
from dlq.models import DeadLetter
from examples.python import composition, failures
from tests.integration.access.marked import ECHO, FAILS, ended, first_run, places_of, send, start
from tests.integration.access.test_keys import issued
from tests.integration.examples import jobs
from tests.integration.examples.conftest import outside, services_address  # noqa: F401
from tests.support.python_flows.hidden import hidden
from tests.support.workers import await_end, await_that, by_key, publish
from workflows import services
from workflows.errors import InvalidInput
from workflows.models import AccessKey, BulkOperation, Event, Organization, Run, TriggerOutcome, Wait
from workflows.models.payload_fields import PayloadField, PayloadTextField
from workflows.sealing import envelope
from workflows.selectors.searching.criteria import Criteria
from workflows.selectors.searching.walk import find
from workflows.services import approvals, events, repair
from workflows.services.access import payloads, stored_payloads
from workflows.services.approvals import Decider
from workflows.services.events import EventsRefused
from workflows.services.own import examples

HOLDS_NO_PAYLOAD = {
    *(f"headrace_workflows.{each}" for each in (
        "eventschema.schema", "fanout.options", "flow.description", "flowversion.definition", "flowversion.source",
        "step.config", "step.condition", "discoveredstep.options", "cancelrule.condition", "trigger.condition",
        "trigger.config", "cronfire.config",  # definitions
        "item.plan", "steprun.path",  # ids, statuses and step keys
        "retentionstate.would_delete", "retentionstate.deleted", "retentionstate.last_pass", "retentionstate.held",
        "worker.lanes", "worker.claimed_until", "worker.code",  # counts and names
        "run.cancel_reason", "auditentry.details",  # what people say, and names of what they have given
    )),
    "headrace_throttling.throttlechange.before", "headrace_throttling.throttlechange.after",  # limits
    "headrace_dlq.alertnotification.error",  # of a channel
    "headrace_dlq.deadletter.place", "headrace_dlq.deadletter.reason", "headrace_dlq.deadlettercomment.text",
}  # fmt: skip
"""Columns that hold none: definitions and settings, counts, names, what people write about a thing."""
ANNA = Decider(name="anna", roles=frozenset({"user:anna"}))


def test_the_walk_finds_what_is_stored_in_clear(org: Organization, workers: Any, mark: str) -> None:
    """Without encryption it stands in many columns: a walk that finds nothing would prove nothing."""
    run = start(org, [ECHO, FAILS], {"word": mark})
    assert await_end(org, run).run.status == "failed"
    await_that(lambda: DeadLetter.objects.filter(org_id=org.id).exists(), what="the dead letter")
    assert places_of(mark) >= {
        "headrace_workflows_run.input", "headrace_workflows_steprun.output", "headrace_workflows_attempt.error",
        "headrace_workflows_run.error", "headrace_dlq_deadletter.event_data", "headrace_dlq_deadletter.error_message",
    }  # fmt: skip


def test_no_column_has_a_payload_after_flows_of_every_kind(
    sealed: Organization,
    mark: str,
    httpserver: HTTPServer,
    outside: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    _declared(sealed, mark, httpserver)
    _by_event(sealed, mark)
    _in_containers(sealed, mark)
    _that_wait(sealed, mark)
    _controlled(sealed, mark)
    _failed(sealed, mark)
    _in_python(sealed, mark, tmp_path)
    assert places_of(mark) == set()
    assert Run.objects.filter(org_id=sealed.id).count() > 20
    tokens = places_of(f"v1:{envelope.keys().current()[0].name}:")
    assert tokens <= {f"{table.name}.{field.column}" for table in stored_payloads.tables() for field in table.fields}, (
        "`rotate` goes over all of them"
    )
    again = payloads.rewrite(sealed)
    assert not again.columns, "what is written by the engine has the form that the list of fields says"
    assert again.unreadable == []


def _declared(org: Organization, mark: str, server: HTTPServer) -> None:
    server.expect_request("/say").respond_with_json({"said": mark})
    branches = [{"if": "input.word.startsWith('open')", "then": ["yes"]}]
    steps = [
        ECHO,
        {"id": "ask", "type": "http_request", "config": {"url": server.url_for("/say"), "method": "POST",
         "json": {"word": "${ steps.echo.output.again }"}}},
        {"id": "code", "type": "sandbox_sync", "config": {"code": "input['word'] + '!'", "input": {"word": "${ input.word }"}}},
        {"id": "branch", "type": "conditional", "config": {"branches": branches, "else": ["no"]}},
        {"id": "yes", "type": "noop", "needs": ["branch"], "config": {"output": "${ steps.ask.output }"}},
        {"id": "no", "type": "noop", "needs": ["branch"]},
        {"id": "tell", "type": "publish_event", "needs": ["echo"], "config": {"name": "told/word", "data": {"word": "${ input.word }"}}},
    ]  # fmt: skip
    detail = ended(org, steps, {"word": mark}, output="${ steps.echo.output }")
    assert detail.run.output == {"again": mark, "n": 1}
    assert mark in json.dumps(by_key(detail)["yes"].step_run.output)
    assert by_key(detail)["no"].step_run.status == "skipped"
    await_that(lambda: Event.objects.filter(org_id=org.id, name="told/word").exists(), what="the event")


def _by_event(org: Organization, mark: str) -> None:
    key = AccessKey.issue(org, "event", "shop")[1]
    publish(org, [ECHO], slug="by-event", on={"event": "shop/word", "if": "event.data.word.startsWith('open')"})
    sent = {"name": "shop/word", "data": {"word": mark}, "user": {"id": "u-1", "mail": mark}}
    assert Client().post(f"/e/{key}", json.dumps(sent), content_type="text/plain").status_code == 200
    assert first_run(org, "by-event").run.input == {"word": mark}
    assert Event.objects.get(org_id=org.id, name="shop/word").user["mail"] == mark
    events.put_schema(org, "shop/strict", {"type": "object", "properties": {"word": {"enum": ["a"]}}})
    with contextlib.suppress(EventsRefused):
        send(org, "shop/strict", word=mark)
    assert Event.objects.get(org_id=org.id, name="shop/strict").data == {"word": mark}
    publish(org, [ECHO], slug="misfit", on={"event": "misfit/go"},
            input_schema={"type": "object", "properties": {"word": {"enum": ["a"]}}})  # fmt: skip
    send(org, "misfit/go", word=mark)
    await_that(lambda: TriggerOutcome.objects.filter(org_id=org.id, code="invalid").exists(), what="the refusal")


def _in_containers(org: Organization, mark: str) -> None:
    for type_, config, shown in (
        ("map", {"items": [{"w": mark}, {"w": mark}]}, "${ item }"),
        ("batch", {"items": [mark, mark, mark], "size": 2}, "${ item }"),
        ("loop", {"until": "index >= 1"}, "${ input.word }"),
        ("group", {}, "${ input.word }"),
    ):
        body = {"id": "one", "type": "noop", "config": {"output": shown}}
        given = json.loads(json.dumps(config).replace(json.dumps(mark), '"${ input.word }"'))
        detail = ended(org, [{"id": "all", "type": type_, "config": given, "steps": [body]}], {"word": mark})
        assert mark in json.dumps(by_key(detail)["all"].step_run.output), type_


def _that_wait(org: Organization, mark: str) -> None:
    wait = {"id": "wait", "type": "wait_for_event", "config": {"event": "answer/given", "match": "data.word"}}
    run_id = start(
        org, [wait, {"id": "end", "type": "noop", "config": {"output": "${ steps.wait.output.data }"}}], {"word": mark}
    )
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), what="the wait")
    send(org, "answer/given", word=mark, more=mark)
    assert by_key(await_end(org, run_id))["end"].step_run.output["more"] == mark
    config = {"title": "${ input.word }", "message": "${ input.word }", "details": {"word": "${ input.word }"}}
    run_id = start(org, [{"id": "ask", "type": "wait_for_approval", "config": config}], {"word": mark})
    (found,) = await_that(lambda: list(Wait.objects.filter(run_id=run_id)), what="the approval")
    assert found.options["details"] == {"word": mark}
    assert found.options["title"] == mark
    approvals.decide(org, found.step_run_id, by=ANNA, approve=True, comment=mark)
    assert by_key(await_end(org, run_id))["ask"].step_run.output["comment"] == mark
    inner = publish(org, [ECHO], slug="inner", output="${ steps.echo.output }")
    call = {"id": "call", "type": "invoke_flow", "config": {"flow": inner, "data": {"word": "${ input.word }"}}}
    assert by_key(ended(org, [call], {"word": mark}))["call"].step_run.output["again"] == mark
    never = [{"id": "wait", "type": "wait_for_event", "config": {"event": "never/comes"}}]
    slug = publish(org, never, slug="cancelled", cancel_on={"event": "order/cancelled", "match": "data.word"})
    mine, others = (services.trigger(org, slug, {"word": word}).run_ids[0] for word in (mark, f"{mark}2"))
    await_that(lambda: Wait.objects.filter(run_id__in=[mine, others]).count() == 2, what="both wait")
    send(org, "order/cancelled", word=mark)
    assert await_end(org, mine).run.status == "cancelled"
    assert Run.objects.get(id=others).is_live
    services.cancel_run(org, others, reason="enough")


def _controlled(org: Organization, mark: str) -> None:
    publish(org, [{"id": "a", "type": "noop", "config": {"output": "${ input.events }"}}], slug="batched",
            on={"event": "row/seen"}, batch={"max_size": 3, "timeout": "60s", "key": "event.data.word"})  # fmt: skip
    for number in range(3):
        send(org, "row/seen", word=mark, n=number)
    seen = by_key(first_run(org, "batched", gathered=3))["a"].step_run.output
    assert [each["data"]["n"] for each in seen] == [0, 1, 2]
    slug = publish(org, [ECHO], slug="quiet", debounce={"period": "1s", "key": "input.word"})
    run_id = services.trigger(org, slug, {"word": mark, "n": 1}).run_ids[0]
    assert services.trigger(org, slug, {"word": mark, "n": 2}).run_ids[0] == run_id
    assert await_end(org, run_id).run.input["n"] == 2
    only = publish(org, [ECHO], slug="only", singleton={"key": "input.word", "mode": "skip"},
                   idempotency={"key": "input.word"}, concurrency=[{"limit": 1, "key": "input.word"}])  # fmt: skip
    run_id = services.trigger(org, only, {"word": mark}).run_ids[0]
    assert await_end(org, run_id).run.status == "completed"
    assert services.trigger(org, only, {"word": mark}).run_ids == [run_id], "the key stands for it"


def _failed(org: Organization, mark: str) -> None:
    slug = publish(org, [ECHO, FAILS], slug="failing", alert_on_failure=True)
    run_id = services.trigger(org, slug, {"word": mark}).run_ids[0]
    detail = await_end(org, run_id)
    assert detail.run.status == "failed"
    assert mark in by_key(detail)["echo"].step_run.output["again"]
    letter = await_that(lambda: DeadLetter.objects.filter(org_id=org.id, run_id=run_id).first(), what="the dead letter")
    assert letter.event_data == {"word": mark}
    _, api = issued(org)
    assert api.get(f"/runs/{run_id}").json()["input"] == {"word": mark}
    replayed = letters.replay(org, letter.id, by="anna", data={"word": f"{mark}3"})
    assert replayed.run_id
    await_end(org, replayed.run_id)
    forked = repair.fork_run(org, run_id, ["fails"], new_input={"word": f"{mark}4"})
    assert forked.run_id
    await_end(org, forked.run_id)
    user = get_user_model().objects.create_user(username=f"u-{uuid.uuid4().hex[:8]}")
    examples.remember(org, user.pk, kind="flow", name=slug, text=json.dumps({"word": mark}))
    assert mark in examples.of(org, user.pk, "flow", slug)[0].text
    BulkOperation.objects.create(org_id=org.id, action="runs.cancel", per_second=1, matched=0, upto=uuid.uuid4(),
                                 created_by="anna", options={"data": mark}, status="completed")  # fmt: skip
    with pytest.raises(InvalidInput, match="stored encrypted"):
        find(org, Criteria(text=mark))
    assert run_id in {run.id for run in find(org, Criteria(cel=f"input.word == '{mark}'")).runs}


def _in_python(org: Organization, mark: str, where: Path) -> None:
    assert jobs.output(org, composition.create_workflow, {"name": mark})["workflowId"]
    jobs.publish(org, failures.critical_job_failed)
    assert jobs.run(org, failures.critical_job, {"invalid": True, "word": mark}).run.status == "failed"
    jobs.await_run_of(org, failures.critical_job_failed)
    run_id = jobs.start(org, hidden, {"word": mark, "dir": str(where)})
    await_that(lambda: Wait.objects.filter(run_id=run_id).exists(), 30, "it waits for the answer")
    send(org, "code/hidden-answer", word=mark)
    detail = await_end(org, run_id, 40)
    assert detail.run.status == "completed", detail.run.error
    assert detail.run.output == {"done": mark, "found": mark, "failed": f"no such word: {mark}"}


def test_every_column_that_can_hold_a_payload_is_known() -> None:
    """A new column of JSON or text is one that is sealed, or is named here with the reason."""
    unknown = {
        f"{model._meta.label_lower}.{field.name}"
        for model in apps.get_models()
        if model._meta.app_label.startswith("headrace_") and model._meta.managed
        for field in model._meta.concrete_fields
        if isinstance(field, models.JSONField | models.TextField)
        and not isinstance(field, PayloadField | PayloadTextField)
    }
    assert unknown == HOLDS_NO_PAYLOAD
