"""A definition is written in the dashboard: checked, published over what was seen, and refused with all its problems."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.test import Client

from tests.integration.dashboard.people import member
from tests.support.workers import publish
from workflows.dashboard.flows.editing import NEW
from workflows.models import AuditEntry, Flow, FlowVersion, Organization

TEXT = "flow: checkout # kept\nsteps:\n  - {id: a, type: noop}\n  - {id: b, type: noop}\n"
EDIT = "/flows/checkout/edit/"


@pytest.fixture
def editor(org: Organization) -> Client:
    return member(org, "editor")


@pytest.fixture
def flow(org: Organization) -> Flow:
    publish(org, [{"id": "a", "type": "noop"}], slug="checkout")
    return Flow.objects.get(organization=org, slug="checkout")


def post(client: Client, address: str, text: str, *, go: str = "publish", seen: int = 1) -> Any:
    return client.post(address, {"text": text, "go": go, "seen": str(seen)})


def shown(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def test_a_checked_text_changes_nothing_and_shows_what_would(editor: Client, flow: Flow) -> None:
    assert "- id: a" in shown(editor.get(EDIT))
    answer = post(editor, EDIT, TEXT, go="check")
    assert answer.status_code == 200
    assert "It can be published: runs that are live stay at their version" in shown(answer)
    assert "What changes" in shown(answer)
    assert flow.versions.count() == 1
    assert not AuditEntry.objects.filter(org_id=flow.organization_id).exists()


def test_a_published_text_is_the_next_version_as_it_was_written(editor: Client, flow: Flow) -> None:
    answer = post(editor, EDIT, TEXT.replace("\n", "\r\n"))
    assert answer["Location"] == "/flows/checkout/"
    assert "Version 2 is published: new runs take it." in shown(editor.get(answer["Location"]))
    flow.refresh_from_db()
    assert flow.current is not None
    assert (flow.current.number, flow.current.source) == (2, TEXT)
    (entry,) = AuditEntry.objects.filter(org_id=flow.organization_id)
    assert (entry.verb, entry.object_id) == ("flow.publish", "checkout")
    again = editor.get(post(editor, EDIT, TEXT + "# said\n", seen=2)["Location"])
    assert "means the same as version 2" in shown(again)
    assert "- id: b" not in shown(editor.get(f"{EDIT}?version=1"))
    assert editor.get(f"{EDIT}?version=7").status_code == 404
    assert editor.get(f"{EDIT}?version=²").status_code == 404


def test_a_text_that_is_a_change_of_an_older_version_is_not_published(editor: Client, flow: Flow) -> None:
    post(editor, EDIT, TEXT)
    later = TEXT.replace("id: b", "id: c")
    answer = post(editor, EDIT, later, seen=1)
    assert answer.status_code == 200
    assert "Version 2 was published meanwhile, and this text is a change of version 1" in shown(answer)
    assert "id: c" in shown(answer), "nothing of it is lost"
    assert flow.versions.count() == 2
    assert 'name="seen" value="2"' in shown(answer)
    assert post(editor, EDIT, later, seen=2).status_code == 302


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "nothing was published"),
        ("flow: [", "line 1"),
        ("flow: checkout\nsteps: [{id: a, type: nothing}]\n", "nothing"),
        ("flow: another\nsteps: [{id: a, type: noop}]\n", "this is the flow 'checkout'; its name can't change"),
        ("flow: checkout\nsteps: [{id: a, type: noop, needs: [b]}]\nx: 1\n", "x"),
        ("flow: checkout\nsteps: [{id: a, type: function, config: {}}]\n", "function"),
        ("flow: checkout\nsteps:\n" + "".join(f"  - {{id: s{n}, type: nothing}}\n" for n in range(80)), "And 30 more."),
    ],
)
@pytest.mark.parametrize("go", ["check", "publish", ""])
def test_a_text_with_problems_is_shown_again_with_all_of_them(
    editor: Client, flow: Flow, text: str, problem: str, go: str
) -> None:
    answer = post(editor, EDIT, text, go=go)
    assert answer.status_code == 200
    assert problem in shown(answer)
    assert flow.versions.count() == 1


def test_a_new_flow_is_written_from_an_example(editor: Client, org: Organization, flow: Flow) -> None:
    page = shown(editor.get("/flows/~new/"))
    assert NEW in page
    assert "It can be published" in shown(post(editor, "/flows/~new/", NEW, go="check", seen=0))
    assert "checkout" in shown(post(editor, "/flows/~new/", TEXT, seen=0)), "one that is there is not published over"
    assert flow.versions.count() == 1
    assert post(editor, "/flows/~new/", NEW, seen=0)["Location"] == "/flows/my-flow/"
    assert FlowVersion.objects.get(flow__organization=org, flow__slug="my-flow").source == NEW


def test_who_may_not_change_flows_writes_none(org: Organization, flow: Flow) -> None:
    for role, status in (("viewer", 403), ("operator", 403), ("editor", 200)):
        client = member(org, role)
        assert client.get(EDIT).status_code == status
        assert client.get("/flows/~new/").status_code == status
        assert ("/edit/" in shown(client.get("/flows/checkout/"))) is (status == 200)
    assert post(member(org, "operator"), EDIT, TEXT).status_code == 403
    assert flow.versions.count() == 1


def test_a_flow_in_python_and_one_that_is_deleted_are_not_written_here(
    editor: Client, org: Organization, flow: Flow
) -> None:
    assert post(editor, EDIT, TEXT, seen=-1).status_code == 422
    Flow.objects.filter(id=flow.id).update(kind=Flow.Kind.CODE)
    try:
        answer = editor.get(EDIT)
        assert (answer.status_code, "is written in Python" in shown(answer)) == (422, True)
        assert "/edit/" not in shown(editor.get("/flows/checkout/"))
    finally:
        Flow.objects.filter(id=flow.id).update(kind=flow.kind)
    assert editor.get("/flows/nothing/edit/").status_code == 404
