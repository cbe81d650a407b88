"""Tags of runs: who gives them, who keeps them, and how runs are found by them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import uuid
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test import Client

from tests.integration.api.test_api import Api
from tests.integration.retention.history import aged
from tests.integration.run_controls.test_flow_controls import pass_time, send
from tests.support.admin_site import staff
from tests.support.by_hand import claim, end, fail
from tests.support.workers import publish
from workflows import services
from workflows.errors import InvalidInput
from workflows.functions import flows
from workflows.models import BulkOperation, Event, Organization, Run, TriggerOutcome
from workflows.selectors.run_lists import RunFilter
from workflows.selectors.searching import walk
from workflows.selectors.searching.criteria import Criteria
from workflows.services import bulk, invoke, repair

pytestmark = pytest.mark.usefixtures("published")
NOOP = [{"id": "a", "type": "noop"}]
HEARS = [{"event": "x/y"}]


def tags_of(run_id: UUID) -> list[str]:
    return Run.objects.get(id=run_id).tags


def start(org: Organization, data: Any = None, **more: Any) -> UUID:
    return services.trigger(org, "flow", data, **more).run_ids[0]


def test_a_flow_gives_its_runs_tags_and_who_starts_one_adds_some(org: Organization) -> None:
    publish(org, NOOP, tags=["nightly", "plan:${ event.data.plan }", "${ input.more }", "${ input.n }-${ event.name }"])
    run_id = start(org, {"plan": "pro", "more": ["eu", 7, True, None], "n": 1}, tags=["mine", "eu"])
    assert tags_of(run_id) == ["nightly", "plan:pro", "eu", "7", "true", "1-headrace/manual", "mine"]
    assert tags_of(start(org, {"n": 2})) == ["nightly", "2-headrace/manual"], "what is not there gives none"
    publish(org, NOOP, slug="plain")
    assert tags_of(services.trigger(org, "plain").run_ids[0]) == []
    assert [tags_of(each) for each in services.trigger_many(org, "plain", [1, 2], tags=["both"]).run_ids] == [
        ["both"]
    ] * 2


@pytest.mark.parametrize(
    ("given", "tags", "says"),
    [
        ({"plan": "a b"}, [], r"tags\[0\] of the flow flow: 'a b' is no tag; a tag has 1 to 64 letters"),
        ({"plan": {"a": 1}}, [], r"is no tag"),
        ({"plan": [f"t{n}" for n in range(21)]}, [], "at most 20 tags"),
        ({"plan": [f"t{n}" for n in range(20)]}, ["mine"], "at most 20 tags, those of its flow included"),
        ({"plan": "fine"}, ["no tag"], r"tags\[0\]: 'no tag' is no tag"),
        ({"plan": "fine"}, "fine", "give a list of texts"),
        ({"plan": "fine", "n": 0}, [], r"tags\[1\] of the flow flow: .*division by zero"),
    ],
)
def test_a_wrong_tag_is_refused_before_a_run_is_made(org: Organization, given: Any, tags: Any, says: str) -> None:
    publish(org, NOOP, tags=["${ input.plan }", "${ string(10 / input.n) }"])
    with pytest.raises(InvalidInput, match=says):
        start(org, given, tags=tags)
    assert not Run.objects.filter(org_id=org.id).exists()


def test_an_event_whose_tag_is_wrong_says_why_it_started_nothing(org: Organization) -> None:
    publish(org, NOOP, on=HEARS, tags=["to:${ event.data.to }"])
    good, bad = send(org, {"to": "anna@example.org"}, {"to": "Anna Muster"})
    assert tags_of(Run.objects.get(event_id=good).id) == ["to:anna@example.org"]
    assert not Run.objects.filter(event_id=bad).exists()
    outcome = TriggerOutcome.objects.get(event_id=bad)
    assert (outcome.code, "'to:Anna Muster' is no tag" in outcome.reason) == ("invalid", True)
    assert Event.objects.get(id=bad).matched_at, "and it stays matched: it is not tried for ever"


def test_a_replay_a_resume_and_a_fork_keep_the_tags(org: Organization) -> None:
    publish(org, NOOP, tags=["of:${ input.n }"])
    first = start(org, {"n": 1}, tags=["mine"])
    fail(first)
    kept = ["of:1", "mine"]
    resumed = repair.replay(org, first, by="t", mode="resume").run_id
    assert resumed
    assert tags_of(resumed) == kept
    end(claim(resumed, "a"))
    publish(org, NOOP, tags=["of:${ input.n }", "a-later-version"])
    replayed = repair.replay(org, resumed, by="t", new_input={"n": 2}).run_id
    forked = repair.fork_run(org, resumed, ["a"], new_input={"n": 3}).run_id
    assert replayed
    assert forked
    assert [tags_of(replayed), tags_of(forked)] == [kept, kept]


def test_children_have_the_tags_of_their_own_flow(org: Organization) -> None:
    publish(org, NOOP, tags=["parent"])
    publish(org, NOOP, slug="child", tags=["child-of:${ input.who }"])
    parent = start(org, tags=["mine"])
    child = invoke.invoke(
        org.id,
        "child",
        {"who": "flow"},
        parent=parent,
        on_parent_cancel="cancel",
        once="1",
        priority=None,
        awaited=True,
    )
    assert tags_of(child) == ["child-of:flow"]


def test_a_debounced_run_has_the_tags_of_the_event_whose_data_it_has(org: Organization) -> None:
    publish(org, NOOP, on=HEARS, debounce={"period": "10s"}, tags=["n:${ event.data.n }"])
    send(org, {"n": 1})
    pass_time(org, 1)
    send(org, {"n": 2})
    run = Run.objects.get(org_id=org.id)
    assert (run.input["n"], run.tags) == (2, ["n:2"])


def tagged(event: Any, step: Any) -> None:
    """A flow in Python."""


def test_a_flow_in_python_declares_tags(org: Organization) -> None:
    made = flows.FunctionFlow("tagged-in-python", tagged, {"tags": ["code", "${ input.x }"], "on": "x/y"})
    assert made.spec().tags == ("code", "${ input.x }")


def test_the_database_refuses_more_than_twenty(org: Organization) -> None:
    publish(org, NOOP)
    run_id = start(org)
    with pytest.raises(IntegrityError, match="run_tags"):
        Run.objects.filter(id=run_id).update(tags=[f"t{n}" for n in range(21)])


def test_the_code_of_before_makes_runs_without_tags(org: Organization) -> None:
    """It writes all columns but this one."""
    publish(org, NOOP)
    row = Run.objects.filter(id=start(org, tags=["x"]))
    columns = ", ".join(f'"{each.column}"' for each in Run._meta.concrete_fields if each.column not in {"id", "tags"})
    new = uuid.uuid4()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO headrace_workflows_run (id, {columns}) SELECT %s, {columns} FROM headrace_workflows_run WHERE id = %s",
            [new, row.get().id],
        )
    assert tags_of(new) == []


# --- finding -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def four(org: Organization) -> list[str]:
    """Runs with several tags, newest first: a and b; a; b; none."""
    publish(org, NOOP)
    made = [start(org, tags=words) for words in ([], ["b"], ["a"], ["a", "b"])]
    return [str(each) for each in reversed(made)]


@pytest.fixture
def reader(org: Organization) -> Client:
    client = staff(superuser=True)
    assert client.get(f"/?org={org.slug}").status_code == 200
    return client


def listed(client: Client, four: list[str], **filters: Any) -> list[int]:
    """Which of the four the list shows, by their places."""
    page = client.get("/", filters, headers={"HX-Request": "true"}).content.decode()
    return [place for place, id_ in enumerate(four) if f'id="run-{id_}"' in page]


def test_runs_are_found_by_tag_on_every_face(
    org: Organization, api_key: str, reader: Client, four: list[str]
) -> None:  # fmt: skip
    api = Api(api_key)

    def over_rest(**query: Any) -> list[int]:
        answer = api.get("/runs", **query).json()
        assert answer["searchedTo"] is None
        return [four.index(run["id"]) for run in answer["runs"]]

    for words, found in (("a", [0, 1]), ("b", [0, 2]), ("a,b", [0]), (" b , a ", [0]), ("c", [])):
        assert (over_rest(tag=words), listed(reader, four, tag=words)) == (found, found), words
        out = io.StringIO()
        call_command("runs", "--org", org.slug, "list", "--tag", words, "--json", stdout=out)
        assert [four.index(run["id"]) for run in json.loads(out.getvalue())["runs"]] == found
    assert listed(reader, four, cel="'a' in run.tags && !('b' in run.tags)") == [1]
    assert api.get("/runs", tag="no tag").status_code == 422
    assert "newest first" in api.get("/runs", tag="a", sort="duration").json()["detail"]
    with pytest.raises(CommandError, match="newest first"):
        call_command("runs", "--org", org.slug, "list", "--tag", "a", "--sort", "priority", stdout=io.StringIO())
    first = api.get("/runs", tag="b", limit=1).json()
    second = api.get("/runs", tag="b", limit=1, cursor=first["nextCursor"]).json()
    assert [run["id"] for run in (*first["runs"], *second["runs"])] == [four[0], four[2]]
    assert api.get(f"/runs/{four[0]}").json()["tags"] == ["a", "b"]
    out = io.StringIO()
    call_command("runs", "--org", org.slug, "list", stdout=out)
    assert "a b" in out.getvalue()


def test_a_search_by_tag_stops_at_its_bound_and_says_how_far_it_came(
    org: Organization, four: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "MAX_READ", 2)
    wanted = Criteria(where=RunFilter(), tags=("b",))
    found = walk.find(org, wanted)
    assert [str(run.id) for run in found.runs] == [four[0]]
    assert found.searched_to is not None
    further = walk.find(org, wanted, cursor=found.next_cursor)
    assert [str(run.id) for run in further.runs] == [four[2]]


def test_the_pages_show_tags_as_filters_and_files_have_them(reader: Client, four: list[str]) -> None:
    page = reader.get("/", {"tag": "a", "flow": "flow"}).content.decode()
    assert 'href="?flow=flow&amp;tag=a,b"' in page, "one more tag narrows it further"
    assert page.count('aria-label="Without tag a"') == 1
    assert 'href="?tag=a"' in reader.get(f"/runs/{four[0]}/").content.decode().replace("/?tag", "?tag")
    answer: Any = reader.get("/runs/export.csv", {"tag": "a,b"})
    (row,) = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert row["tags"] == "a b"
    answer = reader.get("/runs/export.json", {"tag": "a,b"})
    assert json.loads(b"".join(answer.streaming_content))[0]["tags"] == ["a", "b"]
    saved = reader.post("/runs/views/", {"name": "Mine", "query": "tag=a%2Cb&status=queued"})
    assert saved["Location"] == "/?tag=a%2Cb&status=queued"


def test_a_list_of_a_tag_is_live(org: Organization, reader: Client, four: list[str]) -> None:
    table = reader.get("/", {"tag": "b"}, headers={"HX-Request": "true"}).content.decode()
    assert "data-live" in table
    start(org, tags=["a"])
    new = start(org, tags=["b"])
    shown = ",".join(f"{id_}:x" for id_ in (four[0], four[2]))
    answer = reader.get("/runs/rows/", {"tag": "b", "shown": shown}).json()
    assert [each["id"] for each in answer["new"]] == [str(new)]


def test_all_runs_of_a_tag_are_cancelled_however_many_others_there_are(
    org: Organization, reader: Client, four: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_READ", 2)
    for _ in range(5):
        start(org)
    last = str(start(org, tags=["a"]))
    assert "All that match" in reader.get("/", {"tag": "a"}).content.decode()
    asked = reader.get("/runs/matching/cancel/", {"tag": "a"})
    assert asked.context["draft"].matched == 3
    reader.post("/runs/matching/cancel/?tag=a", {"pace": "1000"})
    operation = BulkOperation.objects.get(org_id=org.id)
    for _ in range(200):
        bulk.pump()
        if BulkOperation.objects.get(id=operation.id).status == "completed":
            break
    cancelled = {str(id_) for id_ in Run.objects.filter(org_id=org.id, status="cancelled").values_list("id", flat=True)}
    assert cancelled == {four[0], four[1], last}
    operation.refresh_from_db()
    assert (operation.status, operation.done, operation.passed_over) == ("completed", 3, 0)
    with pytest.raises(InvalidInput, match="is no tag"):
        bulk.draft(org, "cancel_runs", {"tag": "no tag"})


def test_a_run_of_an_export_from_before_comes_back_without_tags(org: Organization, tmp_path: Path) -> None:
    publish(org, NOOP)
    run_id = start(org, tags=["kept"])
    end(claim(run_id, "a"))
    aged(run_id)
    call_command("prune", "--org", org.slug, "--export", str(tmp_path), stdout=io.StringIO())
    (path,) = tmp_path.glob("*.jsonl.gz")
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    for line in lines:
        if line.get("kind") == "run":
            assert line["row"].pop("tags") == ["kept"]
    path.write_bytes(gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode()))
    call_command("runs", "--org", org.slug, "import", str(path), stdout=io.StringIO())
    assert tags_of(run_id) == []
