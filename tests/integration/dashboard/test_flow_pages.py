"""The pages of flows: rights, what was seen, bad inputs, and what each action did."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.integration.dashboard.people import member
from tests.support.admin_site import staff, successes
from tests.support.workers import publish
from workflows.dashboard.flows import drawing
from workflows.models import Flow, Organization, Trigger
from workflows.selectors.pages import flows as selectors
from workflows.services import pauses
from workflows.services.flows import archiving

ON = [{"event": "order/created", "if": "event.data.n > 1"}, {"cron": "0 3 * * *"}, {"webhook": "none", "name": "x.y"}]
STEPS = [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}]


@pytest.fixture
def slug(org: Organization) -> str:
    return publish(org, STEPS, slug="checkout", on=ON)


@pytest.mark.parametrize("tab", ["overview", "definition", "versions", "triggers", "limits", "💩"])
def test_every_part_of_a_flow_is_shown(org: Organization, slug: str, tab: str) -> None:
    answer = member(org, "viewer").get(f"/flows/{slug}/?tab={tab}")
    assert answer.status_code == 200
    assert b"checkout" in answer.content


def test_a_flow_that_is_not_published_is_shown(org: Organization) -> None:
    Flow.objects.create(organization=org, slug="empty", name="Empty")
    client = member(org, "viewer")
    for tab in ("overview", "definition", "versions", "triggers", "limits"):
        assert client.get(f"/flows/empty/?tab={tab}").status_code == 200, tab
    assert b"not published" in client.get("/flows/").content


@pytest.mark.parametrize("query", ["from=9&to=1", "from=-1&to=x", "from=99999999999&to=💩", "from=²"])
def test_versions_that_are_not_there_are_said(org: Organization, slug: str, query: str) -> None:
    publish(org, [*STEPS, {"id": "c", "type": "noop"}], slug="checkout", on=ON)
    assert member(org, "viewer").get(f"/flows/{slug}/?tab=versions&{query}").status_code == 200


def test_the_difference_of_two_versions_is_shown(org: Organization, slug: str) -> None:
    publish(org, [*STEPS, {"id": "added-later", "type": "noop"}], slug="checkout", on=ON)
    page = member(org, "viewer").get(f"/flows/{slug}/?tab=versions").content.decode()
    assert '<div class="added">+- id: added-later' in page


def test_another_organization_has_no_such_flow(org: Organization, other: Organization, slug: str) -> None:
    stranger = member(other, "admin")
    assert stranger.get(f"/flows/{slug}/").status_code == 404
    for mode in ("pause", "drain", "resume", "archive", "unarchive", "delete"):
        assert stranger.post(f"/flows/{slug}/{mode}/").status_code == 404, mode
    trigger = Trigger.objects.get(flow__slug=slug, organization=org, kind="cron")
    assert stranger.post(f"/flows/{slug}/triggers/{trigger.id}/off/").status_code == 404
    assert b"checkout" not in stranger.get("/flows/").content


@pytest.mark.parametrize(("mode", "needed"), [("pause", "operator"), ("drain", "operator"), ("archive", "editor"),
                                              ("delete", "admin")])  # fmt: skip
def test_each_action_takes_its_right(org: Organization, slug: str, mode: str, needed: str) -> None:
    roles = ["viewer", "operator", "editor", "admin"]
    below = member(org, roles[roles.index(needed) - 1])
    answer = below.post(f"/flows/{slug}/{mode}/", follow=True)
    assert "may look at this, and not" in answer.content.decode()
    assert f'/flows/{slug}/{mode}/"' not in below.get(f"/flows/{slug}/").content.decode()
    allowed = member(org, needed)
    assert mode in allowed.get(f"/flows/{slug}/").content.decode()
    assert successes(allowed.post(f"/flows/{slug}/{mode}/", {"seen": "active"}, follow=True)) != []


def test_a_flow_that_has_changed_since_it_was_seen_is_left_alone(org: Organization, slug: str) -> None:
    pauses.stop(pauses.flow(org, slug), by="somebody")
    answer = member(org, "admin").post(f"/flows/{slug}/delete/", {"seen": "active"}, follow=True)
    assert "was active when you looked, and is paused now" in answer.content.decode()
    assert Flow.objects.filter(organization=org, slug=slug, archived_at=None).exists()


def test_a_stop_says_who_why_and_what_becomes_of_arrivals(org: Organization, slug: str) -> None:
    client = member(org, "operator")
    given = {"seen": "active", "reason": "stock is counted", "arrivals": "skip"}
    answer = client.post(f"/flows/{slug}/drain/", given, follow=True)
    assert successes(answer) == ["checkout drains: the runs that have started go on to their ends, no other starts. "
                                 "What arrives is marked and dropped."]  # fmt: skip
    (stop,) = pauses.stopped(org)
    assert (stop["mode"], stop["arrivals"], stop["reason"]) == ("drain", "skip", "stock is counted")
    assert b"stock is counted" in client.get("/flows/").content
    assert successes(client.post(f"/flows/{slug}/resume/", {"seen": "draining", "back": "flows"}, follow=True)) != []
    assert pauses.stopped(org) == []


@pytest.mark.parametrize("given", [{"arrivals": "x"}, {"reason": "\0"}, {"seen": "💩"}])
def test_a_bad_form_changes_nothing(org: Organization, slug: str, given: dict[str, str]) -> None:
    assert member(org, "operator").post(f"/flows/{slug}/pause/", given, follow=True).status_code in {200, 400, 422}
    assert pauses.stopped(org) == []


def test_what_is_no_action_is_not_found(org: Organization, slug: str) -> None:
    client = member(org, "admin")
    assert client.post(f"/flows/{slug}/explode/").status_code == 404
    assert client.get(f"/flows/{slug}/pause/").status_code == 405
    assert client.post(f"/flows/{slug}/triggers/{uuid.uuid4()}/off/").status_code == 404


def test_a_flow_is_archived_and_brought_back(org: Organization, slug: str) -> None:
    client = member(org, "editor")
    client.post(f"/flows/{slug}/archive/", {"seen": "active", "back": "flows"})
    assert slug in client.get("/flows/?archived=true").content.decode()
    page = client.get(f"/flows/{slug}/").content.decode()
    assert "Bring back" in page
    assert "Pause or drain" not in page
    assert successes(client.post(f"/flows/{slug}/unarchive/", {"seen": "archived"}, follow=True)) != []


def test_a_trigger_is_switched_and_says_so_once(org: Organization, slug: str) -> None:
    trigger = Trigger.objects.get(flow__slug=slug, organization=org, kind="cron")
    assert member(org, "operator").post(f"/flows/{slug}/triggers/{trigger.id}/off/").status_code == 403
    client = member(org, "editor")
    assert "is off now" in successes(client.post(f"/flows/{slug}/triggers/{trigger.id}/off/", follow=True))[0]
    trigger.refresh_from_db()
    assert not trigger.enabled
    assert successes(client.post(f"/flows/{slug}/triggers/{trigger.id}/off/", follow=True)) == []
    assert "not caught up" in successes(client.post(f"/flows/{slug}/triggers/{trigger.id}/on/", follow=True))[0]


def test_the_address_of_a_webhook_takes_a_right(org: Organization, slug: str) -> None:
    token = Trigger.objects.get(flow__slug=slug, organization=org, kind="webhook").token
    for path in ("/flows/", f"/flows/{slug}/?tab=triggers"):
        assert token not in member(org, "operator").get(path).content.decode(), path
    assert f"/hooks/{token}" in member(org, "editor").get(f"/flows/{slug}/?tab=triggers").content.decode()


def test_many_flows_are_paged_and_searched(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "FLOWS_SHOWN", 3)
    for number in range(7):
        Flow.objects.create(organization=org, slug=f"flow-{number}", name="Even" if number % 2 == 0 else "Odd")
    client, seen, after = member(org, "viewer"), [], ""
    while True:
        answer = client.get(f"/flows/?after={after}")
        seen += [row["flow"].slug for row in answer.context["flows"]]
        after = answer.context["following"]
        if not after:
            break
    assert seen == [f"flow-{number}" for number in range(7)]
    found = client.get("/flows/?q=even").context["flows"]
    assert [row["flow"].slug for row in found] == ["flow-0", "flow-2", "flow-4"]
    assert b"No flow has this" in client.get("/flows/?q=none-such").content


def test_the_list_asks_as_many_statements_for_many_flows_as_for_one(org: Organization) -> None:
    publish(org, STEPS, slug="one")
    client = member(org, "viewer")
    client.get("/flows/")
    counts = []
    for number in range(2):
        for more in range(5 * number):
            publish(org, STEPS, slug=f"more-{more}")
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/flows/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1], counts


def test_a_drawing_puts_each_step_behind_those_that_it_needs(org: Organization) -> None:
    steps: list[dict[str, Any]] = [
        {"id": "a", "type": "noop"},
        {"id": "b", "type": "noop", "needs": ["a"]},
        {"id": "c", "type": "noop", "needs": ["a"]},
        {
            "id": "d",
            "type": "map",
            "config": {"items": [1]},
            "needs": ["b", "c"],
            "steps": [{"id": "e", "type": "noop"}],
        },
    ]
    publish(org, steps, slug="drawn")
    compiled, _ = selectors.compiled(selectors.find_flow(org, "drawn").current_id)
    assert compiled is not None
    top, inside = drawing.drawings(compiled)
    at = {node.key: (node.x, node.y) for node in top.nodes}
    assert at["a"][0] < at["b"][0] == at["c"][0] < at["d"][0]
    assert at["b"][1] != at["c"][1]
    assert len(top.edges) == 4
    assert top.label == "The flow: a at once; b after a; c after a; d after b and c"
    assert (inside.title, [node.key for node in inside.nodes]) == ("d", ["e"])


def test_a_wide_flow_is_drawn_up_to_a_bound(org: Organization) -> None:
    publish(org, [{"id": f"s{number}", "type": "noop", "needs": []} for number in range(200)], slug="wide")
    compiled, _ = selectors.compiled(selectors.find_flow(org, "wide").current_id)
    assert compiled is not None
    (drawn,) = drawing.drawings(compiled)
    assert (len(drawn.nodes), drawn.left_out) == (drawing.MOST_DRAWN, 50)
    assert member(org, "viewer").get("/flows/wide/").status_code == 200


def test_a_flow_that_is_being_deleted_says_so(org: Organization, slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "go_on", lambda *_, **__: False)
    client = member(org, "admin")
    assert "goes in the background" in successes(client.post(f"/flows/{slug}/delete/", follow=True))[0]
    assert b"It is being deleted" in client.get(f"/flows/{slug}/").content


def test_staff_without_a_membership_sees_no_flow(org: Organization, slug: str) -> None:
    assert staff(["headrace_workflows.view_flow"]).get(f"/flows/{slug}/").status_code == 403


def test_a_count_of_live_runs_that_is_cut_says_so(
    org: Organization, slug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "MOST_COUNTED", 0)
    assert "0 or more live" in member(org, "viewer").get(f"/flows/{slug}/").content.decode()


def test_pages_that_name_flows_count_no_runs_and_read_no_definition(org: Organization, slug: str) -> None:
    client = member(org, "editor")
    for path in ("/", "/limits/", "/test/events/"):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        texts = [query["sql"] for query in queries]
        assert not [text for text in texts if '"definition"' in text], path
        assert not [text for text in texts if 'GROUP BY "headrace_workflows_run"."flow_id"' in text], path
