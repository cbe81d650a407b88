"""The run list: what is found, how far a search goes, live rows, actions on many, views, files; and for whom."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone

from tests.support.admin_site import staff
from tests.support.by_hand import claim, end, start
from tests.support.workers import leave_nothing
from workflows import services
from workflows.dashboard.runs.live import FETCHES_PER_S, Viewers
from workflows.engine.pipeline.retry_decision import describe
from workflows.errors import NonRetriable
from workflows.models import BulkOperation, Organization, Run, SavedView
from workflows.selectors.searching import histogram as histograms
from workflows.selectors.searching import walk
from workflows.selectors.searching.criteria import Criteria
from workflows.services import bulk

STEPS = [{"id": "a", "type": "noop"}]


@pytest.fixture
def reader(org: Organization) -> Iterator[Client]:
    client = staff(superuser=True)
    assert client.get(f"/?org={org.slug}").status_code == 200  # the session keeps the organization
    yield client
    leave_nothing(org)


def listed(client: Client, **filters: Any) -> list[str]:
    answer = client.get("/", filters, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    return re.findall(r'<tr id="run-([0-9a-f-]{36})"', answer.content.decode())


def texts(answer: Any) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def exported(client: Client, kind: str, **filters: str) -> str:
    answer: Any = client.get(f"/runs/export.{kind}", filters)
    return b"".join(answer.streaming_content).decode()


@pytest.fixture
def three(org: Organization, published: list[Any]) -> list[str]:
    """Completed, failed and live; newest first."""
    done, broken, live = (
        start(org, STEPS, {"word": word, "n": n}, slug="listed")
        for n, word in enumerate(["apple", "Pear 50%", "apple pie"])
    )
    end(claim(done, "a"))
    end(claim(broken, "a"), error=describe(NonRetriable("card declined")))
    return [str(live), str(broken), str(done)]


def test_runs_are_found_by_text_expression_priority_and_time(reader: Client, three: list[str]) -> None:
    live, broken, done = three
    assert listed(reader) == three
    assert listed(reader, status="failed") == [broken]
    assert listed(reader, text="APPLE") == [live, done]
    assert listed(reader, text="50%") == [broken]
    assert listed(reader, text="_ear") == [], "no pattern"
    assert listed(reader, text="declined") == [broken], "in the error"
    assert listed(reader, cel="input.n >= 1 && run.status == 'failed'") == [broken]
    assert listed(reader, cel="input.none == 1") == []
    assert listed(reader, priority=">0") == []
    assert listed(reader, priority="<=0", text="pie") == [live]
    assert listed(reader, duration="<1h") == three
    assert listed(reader, duration=">1h") == []
    assert listed(reader, since="1h", flow="listed") == three
    assert listed(reader, until="1h") == []


def test_a_search_stops_says_how_far_it_came_and_goes_on(
    reader: Client, org: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [str(start(org, STEPS, {"n": n}, slug="many")) for n in range(30)]
    monkeypatch.setattr(walk, "MAX_READ", 7)
    monkeypatch.setattr(walk, "FIRST", 3)
    found: list[str] = []
    address: str | None = "/?cel=input.n+%25+10+%3D%3D+0"
    rounds = 0
    while address:
        page = reader.get(address, headers={"HX-Request": "true"}).content.decode()
        found += re.findall(r'<tr id="run-([0-9a-f-]{36})"', page)
        on = re.search(r'hx-get="(/\?[^"]*cursor=[^"]*)"', page)
        assert ("Searched back to" in page) == (on is not None)
        address, rounds = (on[1].replace("&amp;", "&") if on else None), rounds + 1
        assert rounds < 10
    assert found == [runs[20], runs[10], runs[0]]
    assert rounds == 5


def test_an_expression_that_fails_on_some_runs_says_so_and_shows_the_others(reader: Client, three: list[str]) -> None:
    page = reader.get("/", {"cel": "input.word + 1 == 2 || input.n == 0"}).content.decode()
    assert "can't be evaluated on some runs" in page


BAD = [
    {"status": "nope"}, {"cel": "1 +"}, {"cel": "secrets.x == 1"}, {"cel": "x" * 9_000}, {"text": "y" * 300}, {"priority": ">"},
    {"duration": "soon"}, {"since": "never"}, {"cursor": "💩"}, {"sort": "colour"},
]  # fmt: skip


@pytest.mark.parametrize("filters", BAD, ids=str)
def test_a_bad_filter_is_refused_with_a_sentence(reader: Client, three: list[str], filters: dict[str, str]) -> None:
    page = reader.get("/", filters)
    assert page.status_code == 200
    assert 'class="problem" role="alert"' in page.content.decode()
    for address in ("/runs/counts/", "/runs/rows/", "/runs/export.csv", "/runs/matching/replay/"):
        assert reader.get(address, filters).status_code in {200, 422}, address


def test_what_postgres_cannot_take_is_refused(reader: Client, three: list[str]) -> None:
    for filters in ({"text": "\0"}, {"flow": "\0"}, {"q": "\0"}):
        assert reader.get("/", filters).status_code == 422


def test_what_is_typed_becomes_filters_and_an_id_opens_its_run(reader: Client, three: list[str]) -> None:
    assert reader.get("/", {"q": three[0]})["Location"] == f"/runs/{three[0]}/"
    assert (
        reader.get("/", {"q": "status:failed flow:listed pear"})["Location"] == "/?status=failed&flow=listed&text=pear"
    )
    answer = reader.get("/", {"q": "user:anna", "status": "failed"}, headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == "/?status=failed&userId=anna"
    assert reader.get("/", {"q": str(uuid.uuid4())})["Location"].startswith("/?text=")


def told(reader: Client, shown: str) -> dict[str, Any]:
    """What has changed since a list was shown, without the time to wait."""
    answer: dict[str, Any] = reader.get("/runs/rows/", {"shown": shown}).json()
    assert answer.pop("pauseMs") >= 1_000 / FETCHES_PER_S
    return answer


NO_ROWS: dict[str, Any] = {"rows": {}, "new": [], "older": ""}


def test_live_rows_are_those_that_changed_and_those_that_are_new(
    reader: Client, org: Organization, three: list[str]
) -> None:
    page = reader.get("/").content.decode()
    hashes = dict(re.findall(r'<tr id="run-([0-9a-f-]{36})" data-hash="(\w+)"', page))
    shown = ",".join(f"{id_}:{hash_}" for id_, hash_ in hashes.items())
    assert told(reader, shown) == NO_ROWS
    services.cancel_run(org, uuid.UUID(three[0]))
    new = str(start(org, STEPS, slug="listed"))
    changed = told(reader, shown)
    assert list(changed["rows"]) == [three[0]]
    assert "cancelled" in changed["rows"][three[0]]
    assert [each["id"] for each in changed["new"]] == [new]
    assert reader.get("/runs/rows/", {"shown": "x,y:z,,"}).status_code == 200
    ended = f"{three[0]}:ended,{three[1]}:ended"
    changed = told(reader, ended)
    assert (changed["rows"], [each["id"] for each in changed["new"]]) == ({}, [new]), "what has ended is not looked at"


def test_of_many_new_rows_a_page_is_told_with_the_address_of_the_next(
    reader: Client, org: Organization, three: list[str]
) -> None:
    made = [str(each) for each in services.trigger_many(org, "listed", [{}] * 60).run_ids]
    changed = reader.get("/runs/rows/", {"shown": f"{three[0]}:ended", "flow": "listed"}).json()
    newest = sorted(made, reverse=True)
    assert [each["id"] for each in changed["new"]] == newest[:50]
    older = reader.get(changed["older"], headers={"HX-Request": "true"}).content.decode()
    assert re.findall(r'<tr id="run-([0-9a-f-]{36})"', older) == [*newest[50:], *three]


def test_many_lists_are_told_to_wait_longer() -> None:
    now = [0.0]
    viewers = Viewers(clock=lambda: now[0])
    assert [viewers.pause_ms(name) for name in ("a", "b", "a", "c", *"defghij")][-1] == round(10_000 / FETCHES_PER_S)
    now[0] = 3_600.0
    assert viewers.pause_ms("d") == round(1_000 / FETCHES_PER_S), "the others have left"


def test_chosen_runs_are_handled_and_those_that_changed_are_left_with_a_sentence(
    reader: Client, org: Organization, three: list[str]
) -> None:
    live, broken, done = three
    before = Run.objects.filter(org_id=org.id).count()
    answer = reader.post(
        "/runs/chosen/replay/", {"run": [f"{broken}:failed", f"{done}:failed", f"{live}:running", "nonsense"]}
    )
    assert Run.objects.filter(org_id=org.id).count() == before + 1
    said = texts(answer)
    assert "1 run is replayed." in said
    assert "was failed on your page, and is completed now" in said
    assert live in said
    assert "nonsense: this is no id" in said
    answer = reader.post("/runs/chosen/cancel/", {"run": f"{live}:waiting", "next": "https://elsewhere.example/"})
    assert answer["Location"] == "/"
    assert Run.objects.get(id=live).status == "cancelled"
    assert reader.post("/runs/chosen/explode/", {"run": live}).status_code == 404


def test_all_that_match_are_handled_by_an_operation_that_can_be_stopped(
    reader: Client, org: Organization, three: list[str]
) -> None:
    asked = reader.get("/runs/matching/replay/", {"status": "failed", "since": "1h"}).content.decode()
    assert "1 run</p>" in asked
    assert reader.post("/runs/matching/replay/?status=failed", {"pace": "fast"}).status_code == 422
    assert reader.post("/runs/matching/replay/?status=failed", {"pace": "-1"}).status_code == 422
    answer = reader.post("/runs/matching/resume/?status=failed&since=1h", {"pace": "0.5"})
    operation = BulkOperation.objects.get(org_id=org.id)
    assert answer["Location"] == f"/operations/{operation.id}/"
    assert (operation.matched, operation.per_second, operation.options["mode"]) == (1, 0.5, "resume")
    assert operation.filter["since"].startswith("20"), "a moment, and not how long ago"
    reader.post(f"/operations/{operation.id}/stop/")
    assert "stopped" in reader.get(f"/operations/{operation.id}/").content.decode()
    reader.post(f"/operations/{operation.id}/resume/")
    assert "stopped by" in reader.get(f"/operations/{operation.id}/", headers={"HX-Request": "true"}).content.decode()
    assert operation.action in reader.get("/operations/").content.decode()
    assert "Resume" in reader.get("/operations/").content.decode()
    BulkOperation.objects.filter(id=operation.id).update(status="completed")


def test_a_view_is_kept_by_name_for_its_login_only(reader: Client, org: Organization, three: list[str]) -> None:
    reader.post("/runs/views/", {"name": "Broken", "query": "status=failed&sort=priority&columns=flow,error&evil=1"})
    reader.post("/runs/views/", {"name": "Broken", "query": "status=failed&columns=flow,error"})
    view = SavedView.objects.get(organization=org)
    assert view.query == "status=failed&columns=flow%2Cerror"
    assert "Broken" in reader.get("/").content.decode()
    page = reader.get(f"/?{view.query}").content.decode()
    assert "card declined" in page, "the column of errors is shown"
    stranger = staff(superuser=True)
    assert "Broken" not in stranger.get(f"/?org={org.slug}").content.decode()
    stranger.post(f"/runs/views/{view.id}/delete/")
    assert SavedView.objects.filter(id=view.id).exists(), "it is somebody else's"
    for name, query in [("", "status=failed"), ("x" * 81, ""), ("x", "text=" + "y" * 3_000)]:
        reader.post("/runs/views/", {"name": name, "query": query})
    assert SavedView.objects.filter(organization=org).count() == 1
    reader.post(f"/runs/views/{view.id}/delete/")
    assert not SavedView.objects.filter(organization=org).exists()


def test_the_list_is_exported_as_it_is_filtered(reader: Client, three: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(reader, "csv", flow="listed"))))
    assert [row["id"] for row in rows] == three
    assert rows[1]["error"] == "card declined"
    found = json.loads(exported(reader, "json", text="apple"))
    assert [row["id"] for row in found] == [three[0], three[2]]
    assert json.loads(exported(reader, "json", flow="none")) == []
    assert reader.get("/runs/export.xls").status_code == 404


def test_counts_are_by_status_and_lead_to_their_runs(reader: Client, three: list[str]) -> None:
    page = reader.get("/runs/counts/").content.decode()
    assert re.search(r'href="\?status=failed"[^>]*>failed <b>1</b>', page)
    assert "live <b>1</b>" in page
    of_none = reader.get("/runs/counts/", {"flow": "none"})
    assert (of_none.status_code, "<b>" in of_none.content.decode()) == (200, False)


def test_counts_of_a_search_are_among_so_many_of_the_newest_runs(
    reader: Client, org: Organization, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Run.objects.filter(id=three[-1]).update(priority=77)
    monkeypatch.setattr(histograms, "MOST_READ", 2)
    drawn = histograms.histogram(org, Criteria(priority_from=77), now=timezone.now())
    assert (drawn.total, drawn.among, drawn.is_partial) == (0, 2, True), "the third is not looked at"
    assert "None among the newest 2 runs" in reader.get("/runs/counts/", {"priority": ">=77"}).content.decode()
    monkeypatch.setattr(histograms, "MOST_READ", 3)
    drawn = histograms.histogram(org, Criteria(priority_from=77), now=timezone.now())
    assert (drawn.total, drawn.among, drawn.is_partial) == (1, 0, False)


def test_an_operation_that_has_ended_is_not_said_to_stop(reader: Client, org: Organization, three: list[str]) -> None:
    ended = bulk.start(org, "replay_runs", {"status": "failed"}, by="test")
    BulkOperation.objects.filter(id=ended.id).update(status="completed")
    assert "there is nothing to stop" in texts(reader.post(f"/operations/{ended.id}/stop/"))
    given_up = BulkOperation.objects.filter(id=ended.id)
    given_up.update(problems=[{"id": str(ended.id), "reason": "It was stopped, since it can't go on."}])
    page = reader.get(f"/operations/{ended.id}/").content.decode()
    assert "can&#x27;t go on" in page
    assert f"/runs/{ended.id}/" not in page, "it is no run"


def test_operations_on_letters_have_pages_of_their_own(reader: Client, org: Organization, three: list[str]) -> None:
    other = bulk.start(org, "ignore_dead_letters", {}, by="test", options={"reason": "a test"})
    assert str(other.id) not in reader.get("/operations/").content.decode()
    assert reader.get(f"/operations/{other.id}/").status_code == 404
    assert reader.post(f"/operations/{other.id}/stop/").status_code == 404
    assert bulk.get(org, other.id).status == "running"
    bulk.stop(org, other.id, by="test")


def test_another_organization_sees_and_changes_nothing(three: list[str], other: Organization) -> None:
    stranger = staff(superuser=True)
    stranger.get(f"/?org={other.slug}")
    assert listed(stranger) == []
    assert listed(stranger, text="apple") == []
    assert told(stranger, f"{three[0]}:x") == NO_ROWS
    said = texts(stranger.post("/runs/chosen/cancel/", {"run": f"{three[0]}:running"}))
    assert "Left as it is" in said
    assert Run.objects.get(id=three[0]).status != "cancelled"


def test_a_login_that_may_only_look_is_offered_and_allowed_no_action(three: list[str], org: Organization) -> None:
    looker = staff(superuser=False)
    page = looker.get("/")
    if page.status_code == 200:
        assert 'name="run"' not in page.content.decode()
    for address in ("/runs/chosen/cancel/", "/runs/matching/cancel/", f"/runs/{three[0]}/cancel/",
                    f"/runs/{three[0]}/repeat/", "/test/"):  # fmt: skip
        assert looker.post(address).status_code == 403, address
