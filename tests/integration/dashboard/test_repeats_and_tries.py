"""Repeating a run with changes, comparing it, its history; and the test page."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.support.admin_site import staff
from tests.support.by_hand import NO, claim, end, start
from tests.support.workers import leave_nothing, publish
from workflows.dashboard.run import repeat
from workflows.models import Event, Example, Organization, Run

STEPS = [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}, {"id": "c", "type": "noop"}]
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "why": {"type": "string"}}}


@pytest.fixture
def reader(org: Organization) -> Iterator[Client]:
    client = staff(superuser=True)
    assert client.get(f"/?org={org.slug}").status_code == 200
    yield client
    leave_nothing(org)


@pytest.fixture
def broken(org: Organization, published: list[Any]) -> uuid.UUID:
    """A run whose step `b` failed, after one that completed."""
    good = start(org, STEPS, {"n": 0}, slug="repeated", input_schema=SCHEMA)
    for key in "abc":
        end(claim(good, key))
    made = start(org, STEPS, {"n": 1, "why": "x"}, slug="repeated", input_schema=SCHEMA)
    end(claim(made, "a"))
    end(claim(made, "b"), error=NO)
    assert Run.objects.get(id=made).status == "failed"
    return made


def runs_of(run_id: uuid.UUID) -> int:
    """How many runs the organization of a run has."""
    return Run.objects.filter(org_id=Run.objects.get(id=run_id).org_id).count()


def form(page: str) -> dict[str, str]:
    found = re.search(r'name="previewed" value="(\w+)"', page)
    return {"previewed": found[1]} if found else {}


def test_a_fork_with_another_input_is_previewed_with_its_difference_and_then_made(
    reader: Client, broken: uuid.UUID
) -> None:
    address = f"/runs/{broken}/repeat/"
    asked = {"seen": "failed", "mode": "fork", "step": "b", "version": "same", "input": '{"n": 2,\r\n "why": "x"}'}
    before = runs_of(broken)
    page = reader.post(address, {**asked, "go": "preview"}).content.decode()
    assert '<div class="removed">-  &quot;n&quot;: 1' in page
    assert "Takes over</dt><dd>a<" in page
    assert "Runs</dt><dd>b, c<" in page
    assert runs_of(broken) == before, "nothing is made by a preview"
    changed = reader.post(address, {**asked, "input": '{"n": 3}', "go": "make", **form(page)})
    assert (changed.status_code, runs_of(broken)) == (200, before), "another input is previewed first"
    made = reader.post(address, {**asked, "go": "make", **form(page)})
    run = Run.objects.get(id=made["Location"].split("/")[2])
    assert (run.input, run.origin_kind) == ({"n": 2, "why": "x"}, "fork")
    assert (
        "in version 1: it runs 2 steps, and takes over the outcomes of 1"
        in reader.get(made["Location"]).content.decode()
    )


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"input": "{"}, 422, "input: this is no JSON"),
        ({"input": '{"n": "many"}'}, 422, "input.n"),
        ({"input": "[" * 5_000}, 422, "input: this is no JSON"),
        ({"seen": "running"}, 422, "was running on your page, and is failed now"),
        ({"mode": "explode"}, 404, ""),
        ({"step": "none"}, 404, ""),
        ({"version": "7"}, 422, "version"),
    ],
)
def test_a_bad_repeat_makes_nothing_and_says_why(
    reader: Client, broken: uuid.UUID, change: dict[str, str], status: int, sentence: str
) -> None:
    asked = {"seen": "failed", "mode": "fork", "step": "b", "version": "same", "input": '{"n": 2}', "go": "preview"}
    before = runs_of(broken)
    answer = reader.post(f"/runs/{broken}/repeat/", {**asked, **change})
    assert answer.status_code == status
    assert sentence in answer.content.decode()
    assert runs_of(broken) == before


def test_a_replay_of_a_run_that_is_another_one_by_now_is_refused(reader: Client, broken: uuid.UUID) -> None:
    before = runs_of(broken)
    reader.post(f"/runs/{broken}/replay/resume/", {"seen": "completed"})
    assert "Nothing was done" in reader.get(f"/runs/{broken}/").content.decode()
    assert runs_of(broken) == before
    answer = reader.post(f"/runs/{broken}/replay/resume/", {"seen": "failed"})
    assert answer["Location"] != f"/runs/{broken}/"
    assert runs_of(broken) == before + 1


def test_a_failed_run_shows_its_step_opened_its_letter_and_what_happened(reader: Client, broken: uuid.UUID) -> None:
    page = reader.get(f"/runs/{broken}/").content.decode()
    assert re.search(r'<details class="step" id="step-b"[^>]* open>', page)
    assert re.search(r'href="[^"]*deadletter[^"]*">Dead letter of b</a>', page) or "Dead letter" in page
    panel = reader.get(f"/runs/{broken}/steps/b/").content.decode()
    assert "Its dead letter (failed)" in panel
    history = reader.get(f"/runs/{broken}/history/").content.decode()
    said = [re.sub(r"<[^>]+>|\s+", " ", each) for each in re.findall(r"<li>(.*?)</li>", history, re.DOTALL)]
    order = ["The run was made", "a started", "a completed", "b try 1 failed", "became a dead letter", "ended: failed"]
    places = [
        next(at for at, text in enumerate(said) if re.sub(" +", " ", words) in re.sub(" +", " ", text))
        for words in order
    ]
    assert places[:4] == sorted(places[:4]), said
    assert "Does not wait: it is failed" in reader.get(f"/runs/{broken}/steps/b/limits/").content.decode()


def test_a_run_is_compared_with_the_last_one_that_completed(
    reader: Client, org: Organization, broken: uuid.UUID
) -> None:
    page = reader.get(f"/runs/{broken}/compare/").content.decode()
    assert '<div class="removed">-  &quot;n&quot;: 0' in page
    assert '<div class="added">+  &quot;n&quot;: 1' in page
    assert re.search(r'<tr class="chosen"><th scope="row">b</th>', page)
    alone = start(org, STEPS, slug="alone")
    assert reader.get(f"/runs/{alone}/compare/")["Location"] == f"/runs/{alone}/"
    assert reader.get(f"/runs/{broken}/compare/", {"with": str(alone)}).status_code == 404, "of another flow"
    assert reader.get(f"/runs/{broken}/compare/", {"with": str(uuid.uuid4())}).status_code == 404


def test_the_graph_is_drawn_by_what_steps_need(reader: Client, org: Organization, published: list[Any]) -> None:
    steps = [*STEPS, {"id": "d", "type": "noop", "needs": ["a"]}]
    page = reader.get(f"/runs/{start(org, steps, slug='drawn')}/").content.decode()
    assert page.count('<g class="node') == 4
    assert page.count('<path class="edge') == 3


def test_items_are_read_page_by_page(reader: Client, org: Organization, published: list[Any]) -> None:
    each = {"id": "one", "type": "noop"}
    run_id = start(org, [{"id": "all", "type": "map", "config": {"items": [1]}, "steps": [each]}], slug="mapped")
    page = reader.get(f"/runs/{run_id}/steps/all/items/")
    assert (page.status_code, "No item here" in page.content.decode()) == (200, True), "it has not been spread yet"
    for bad in ({"cursor": "x"}, {"status": "nope"}):
        refused = reader.get(f"/runs/{run_id}/steps/all/items/", bad)
        assert (refused.status_code, 'role="alert"' in refused.content.decode()) == (422, True)


def test_a_flow_is_run_from_its_form_and_what_was_tried_is_remembered(
    reader: Client, org: Organization, published: list[Any]
) -> None:
    publish(org, STEPS, slug="tried", input_schema=SCHEMA)
    page = reader.get("/test/", {"flow": "tried"}).content.decode()
    assert "&quot;required&quot;: [&quot;n&quot;]" in page
    answer = reader.post("/test/", {"flow": "tried", "input": '{"n": 7}', "priority": "high", "userId": "anna"})
    run = Run.objects.get(id=answer["Location"].split("/")[2])
    assert (run.input, run.user_id, run.priority > 0, run.trigger) == ({"n": 7}, "anna", True, "manual")
    assert "&quot;n&quot;: 7" in reader.get("/test/", {"flow": "tried"}).content.decode()
    assert "&quot;n&quot;: 7" in reader.get("/test/", {"flow": "tried", "like": str(run.id)}).content.decode()
    for n in range(12):
        reader.post("/test/", {"flow": "tried", "input": json.dumps({"n": n})})
    kept = Example.objects.filter(organization=org)
    assert (kept.count(), json.loads(kept[0].text)) == (10, {"n": 11})
    stranger = staff(superuser=True)
    stranger.get(f"/?org={org.slug}")
    assert "&quot;n&quot;: 11" not in stranger.get("/test/", {"flow": "tried"}).content.decode()


def test_a_try_that_makes_no_run_does_not_say_that_one_is_made(
    reader: Client, org: Organization, published: list[Any]
) -> None:
    publish(org, STEPS, slug="keyed", input_schema=SCHEMA)
    fields = {"flow": "keyed", "input": '{"n": 7}', "key": "once"}
    first = reader.post("/test/", fields)
    again = reader.post("/test/", fields)
    assert again["Location"] == first["Location"]
    shown = reader.get(again["Location"]).content.decode()
    assert "this earlier run has the key" in shown
    assert shown.count("A run of keyed is made") == 1, "of the first try"
    run_id = first["Location"].split("/")[2]
    leave_nothing(org)
    Run.objects.filter(id=run_id).delete()
    gone = reader.post("/test/", fields)
    assert gone["Location"] == "/test/?flow=keyed"
    assert "has ended and is deleted" in reader.get(gone["Location"]).content.decode()
    for name in ("key", "userId"):
        assert f"{name}: at most 200" in reader.post("/test/", {**fields, name: "x" * 201}).content.decode()


def test_a_failed_run_of_a_flow_that_was_changed_since_is_resumed_in_either_version(
    reader: Client, org: Organization, broken: uuid.UUID
) -> None:
    page = reader.get(f"/runs/{broken}/").content.decode()
    assert "Resume in version" not in page
    publish(org, [*STEPS, {"id": "d", "type": "noop"}], slug="repeated", input_schema=SCHEMA)
    page = reader.get(f"/runs/{broken}/").content.decode()
    assert "Resume in version 2" in page
    assert "in the same version, 1, as it was before the flow was changed" in page
    (address,) = re.findall(rf'href="(/runs/{broken}/repeat/\?mode=resume[^"]*)"', page)
    form = reader.get(address.replace("&amp;", "&")).context["wanted"]
    assert (form.mode, form.version) == ("resume", "current")


def test_a_refused_try_leads_to_the_run_in_its_place(reader: Client, org: Organization, published: list[Any]) -> None:
    publish(org, STEPS, slug="single", singleton={})
    first = reader.post("/test/", {"flow": "single", "input": "{}"})
    assert "A run of single is made" in reader.get(first["Location"]).content.decode()
    again = reader.post("/test/", {"flow": "single", "input": "{}"})
    shown = reader.get(again["Location"]).content.decode()
    assert again["Location"] == first["Location"]
    assert "No new run was made" in shown
    assert "is made. This page" not in shown


def test_a_text_that_is_no_json_stands_for_no_input_where_it_is_too_large_to_edit(
    reader: Client, broken: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeat, "MAX_EVENT_BYTES", 1)
    answer = reader.post(f"/runs/{broken}/repeat/", {"mode": "start", "input": "{"})
    assert (answer.status_code, answer.context["after"]) == (200, answer.context["before"])


BAD = [
    ({"input": "{"}, "no JSON"), ({"input": '{"n": "x"}'}, "input.n"), ({}, "the form has none"), ({"input": "1" * 1_000_001}, "use the API"),
    ({"input": '{"n": 1}', "delay": "soon"}, "delay"), ({"input": '{"n": 1}', "priority": "now"}, "priority"),
    ({"input": '{"n": 1}', "flow": "none"}, "no flow"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), BAD, ids=[each[1] for each in BAD])
def test_a_bad_try_starts_nothing_keeps_what_was_written_and_says_why(
    reader: Client, org: Organization, published: list[Any], change: dict[str, str], sentence: str
) -> None:
    publish(org, STEPS, slug="tried", input_schema=SCHEMA)
    answer = reader.post("/test/", {"flow": "tried", **change})
    assert (answer.status_code, sentence in answer.content.decode()) == (422, True)
    assert not Run.objects.filter(org_id=org.id).exists()


def test_events_are_sent_and_what_came_of_them_is_shown(
    reader: Client, org: Organization, published: list[Any]
) -> None:
    answer = reader.post("/test/events/", {"events": '[{"name": "a/b", "data": {"x": 1}}, {"name": "a/c"}]'})
    assert answer["Location"].startswith("/test/events/sent/?ids=")
    assert set(Event.objects.filter(org_id=org.id).values_list("name", flat=True)) == {"a/b", "a/c"}
    page = reader.get(answer["Location"]).content.decode()
    assert "a/b" in page
    assert "a/c" in page
    for text, sentence in [
        ("{", "no JSON"),
        ('{"data": {}}', "name"),
        ('{"name": "headrace/x"}', "system"),
        ("[]", "1 to"),
    ]:
        refused = reader.post("/test/events/", {"events": text})
        assert (refused.status_code >= 400, sentence in refused.content.decode()) == (True, True), text
    assert reader.get("/test/events/sent/", {"ids": "x,,💩"}).status_code == 200
