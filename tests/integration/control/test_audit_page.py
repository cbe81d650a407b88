"""The page of the audit log: filters, how far back a search came, links to what is there, and files."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from tests.integration.access.test_keys import issued
from tests.integration.dashboard.people import member, operator_of_all
from tests.support.workers import publish
from workflows import services
from workflows.dashboard import files
from workflows.models import AuditEntry, Organization
from workflows.selectors.access import audit as selectors
from workflows.selectors.access.audit import AuditFilter
from workflows.services.access import audit, changes, redacting

NOOP = [{"id": "a", "type": "noop"}]


@pytest.fixture
def admin(org: Organization) -> Client:
    return member(org, "admin")


def write(org: Organization | None, verb: str, *, actor: str = "anna", **more: Any) -> AuditEntry:
    return audit.record(org.id if org else None, audit.Actor(kind="login", name=actor), verb, **more)


def verbs(answer: Any) -> list[str]:
    return [row["entry"].verb for row in answer.context["rows"]]


def streamed(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode()


def test_the_log_is_read_by_filters_newest_first(org: Organization, other: Organization, admin: Client) -> None:
    write(org, "run.cancel", kind="run", id="r1")
    write(org, "run.replay", actor="bert", kind="run", id="r2")
    write(org, "key.issue", kind="key", id="k1")
    audit.record(org.id, audit.Actor(kind="key", name="hr_api_x… (ci)"), "flow.pause", kind="flow", id="f")
    write(other, "their.secret")
    assert verbs(admin.get("/audit/")) == ["flow.pause", "key.issue", "run.replay", "run.cancel"]
    for query, found in (
        ("verb=run.*", ["run.replay", "run.cancel"]),
        ("verb=run.cancel", ["run.cancel"]),
        ("actor=bert", ["run.replay"]),
        ("by=key", ["flow.pause"]),
        ("kind=run&object=r1", ["run.cancel"]),
        ("since=2999-01-01T00:00", []),
        ("until=2000-01-01T00:00", []),
        ("since=2000-01-01T00:00&until=2999-01-01T00:00", ["flow.pause", "key.issue", "run.replay", "run.cancel"]),
        ("actor=their", []),
    ):
        answer = admin.get(f"/audit/?{query}")
        assert (answer.status_code, verbs(answer)) == (200, found), query
        assert "their.secret" not in answer.content.decode()


@pytest.mark.parametrize("bad", ["by=nobody", "since=yesterday", "until=x", "cursor=x", "since=99999-01-01"])
def test_what_can_not_be_meant_is_refused_on_the_page(org: Organization, admin: Client, bad: str) -> None:
    answer = admin.get(f"/audit/?{bad}")
    assert (answer.status_code, 'role="alert"' in answer.content.decode()) == (422, True)


def test_pages_hold_every_entry_once_and_the_last_has_no_next(org: Organization, admin: Client) -> None:
    for number in range(100):
        write(org, f"n.{number}")
    first = admin.get("/audit/")
    second = admin.get(f"/audit/?cursor={first.context['following']}")
    assert verbs(first) + verbs(second) == [f"n.{number}" for number in reversed(range(100))]
    assert (second.context["following"], first.context["searched_to"]) == ("", None)


def test_a_search_says_how_far_back_it_came_and_goes_on(
    org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = write(org, "rare.one")
    for number in range(30):
        write(org, f"n.{number}")
    monkeypatch.setattr(selectors, "AT_ONCE", 5)
    monkeypatch.setattr(selectors, "MAX_READ", 10)
    seen, address, pages = [], "/audit/?verb=rare.*", 0
    while address:
        answer = admin.get(address)
        seen += verbs(answer)
        following, pages = answer.context["following"], pages + 1
        assert bool(following) == (answer.context["searched_to"] is not None)
        assert ("Searched back to" in answer.content.decode()) == bool(following)
        address = f"/audit/?verb=rare.*&cursor={following}" if following else ""
    assert (seen, pages) == (["rare.one"], 4)
    page = issued(org, "change_organization")[1].get("/audit", verb="rare.*").json()
    assert (page["entries"], bool(page["nextCursor"]), bool(page["searchedTo"])) == ([], True, True)
    out = io.StringIO()
    call_command("audit", "list", "--verb-is=rare.*", f"--org={org.slug}", stdout=out)
    assert "searched back to" in out.getvalue()
    monkeypatch.setattr(selectors, "MAX_READ", 100)
    since = rare.at - dt.timedelta(seconds=1)
    until = rare.at + dt.timedelta(microseconds=1)
    found = selectors.entries(org, AuditFilter(verb="rare.*", since=since, until=until))
    assert [entry.id for entry in found.entries] == [rare.id]


def test_what_was_before_and_after_is_shown_as_a_difference(org: Organization, admin: Client) -> None:
    with changes.collected():
        changes.tell({"days": 30, "same": 1}, {"days": 7, "same": 1})
        entry = write(org, "retention.set", details={"days": "7"})
    assert entry.details == {"days": "7", "before": {"days": 30}, "after": {"days": 7}}
    page = admin.get("/audit/").content.decode()
    assert 'class="removed"' in page
    assert 'class="added"' in page
    changes.tell({"a": 1}, {"a": 2})
    assert "before" not in write(org, "x").details, "nothing is kept outside a face"


def test_rules_of_redaction_hold_for_the_log_too(org: Organization, admin: Client) -> None:
    redacting.set_rules(org, ["card"])
    with changes.collected():
        changes.tell({"card": "4111111111111111", "n": 1}, {"card": "4222222222222222", "n": 2})
        write(org, "x.set", details={"card": "4333333333333333", "value": "a-secret", "password": "pw-of-anna"})
    kept = json.dumps(AuditEntry.objects.get(org_id=org.id, verb="x.set").details)
    for text in (kept, admin.get("/audit/").content.decode(), streamed(admin.get("/audit/export.json"))):
        assert not [secret for secret in ("4111", "4222", "4333", "a-secret", "pw-of-anna") if secret in text]


def test_what_is_still_there_has_a_link(org: Organization, other: Organization, admin: Client) -> None:
    slug = publish(org, NOOP, slug="linked")
    run_id = services.trigger(org, slug, delay="1h").run_ids[0]
    theirs = services.trigger(other, publish(other, NOOP), delay="1h").run_ids[0]
    row, _ = issued(org)
    there = {
        "run": (str(run_id), f"/runs/{run_id}/"), "flow": (slug, "/flows/linked/"), "key": (str(row.id), f"/keys/?key={row.id}"),
        "member": ("user:anna", "/organization/"), "retention": ("failed", "/retention/?subject=failed"),
    }  # fmt: skip
    for kind, (id_, _) in there.items():
        write(org, "x", kind=kind, id=id_)
    for kind, id_ in (("run", str(theirs)), ("run", str(uuid4())), ("run", "no id"), ("flow", "gone"), ("dead letter", "x"),
                      ("dead letter", str(uuid4())), ("something", "x"), ("", "")):  # fmt: skip
        write(org, "y", kind=kind, id=id_)
    rows = admin.get("/audit/").context["rows"]
    found = {row["entry"].object_kind: row["address"] for row in rows if row["entry"].verb == "x"}
    assert found == {kind: address for kind, (_, address) in there.items()}
    assert {row["address"] for row in rows if row["entry"].verb == "y"} == {""}
    for address in found.values():
        assert admin.get(address).status_code == 200, address


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_file_has_the_entries_that_match_within_its_bound(
    org: Organization, other: Organization, admin: Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        write(org, f"n.{number}", details={"why": "=1+1", "n": number})
    write(org, "=cmd|x", actor="=anna")
    write(other, "theirs.x")
    everything = rows_of(kind, admin.get(f"/audit/export.{kind}"))
    assert [row["verb"].lstrip("'") for row in everything] == [
        "=cmd|x",
        *(f"n.{number}" for number in reversed(range(30))),
    ]
    assert [row["verb"] for row in rows_of(kind, admin.get(f"/audit/export.{kind}?verb=n.7"))] == ["n.7"]
    if kind == "csv":
        assert everything[0]["verb"] == "'=cmd|x"
        assert json.loads(everything[1]["details"]) == {"why": "=1+1", "n": 29}
    monkeypatch.setattr(files, "MOST", 10)
    assert len(rows_of(kind, admin.get(f"/audit/export.{kind}"))) == 10
    assert admin.get(f"/audit/export.{kind}?by=nobody").status_code == 422
    assert admin.get("/audit/export.xls").status_code == 404


def rows_of(kind: str, answer: Any) -> list[dict[str, Any]]:
    assert f".{kind}" in answer["Content-Disposition"]
    text = streamed(answer)
    found: list[dict[str, Any]] = json.loads(text) if kind == "json" else list(csv.DictReader(io.StringIO(text)))
    return found


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_admins_alone_read_it(org: Organization, role: str) -> None:
    client = member(org, role)
    assert b"/audit/" not in client.get("/").content
    assert [client.get(path).status_code for path in ("/audit/", "/audit/export.csv")] == [403, 403]


def test_what_belongs_to_no_organization_is_for_operators(org: Organization, admin: Client) -> None:
    mark = f"of-none.{uuid4().hex[:8]}"
    write(None, mark, kind="login", id="anna")
    assert admin.get(f"/audit/?of=none&verb={mark}").status_code == 403
    assert admin.get("/audit/export.json?of=none").status_code == 403
    root = operator_of_all(org)
    assert verbs(root.get(f"/audit/?of=none&verb={mark}")) == [mark]
    assert [row["verb"] for row in rows_of("json", root.get(f"/audit/export.json?of=none&verb={mark}"))] == [mark]
    assert verbs(root.get(f"/audit/?verb={mark}")) == []


def test_members_quotas_and_limits_say_what_they_were(org: Organization, admin: Client) -> None:
    name = member(org, "viewer").session.get("_auth_user_id")
    assert name is not None
    api = issued(org, operator=True, as_operator=True)[1]
    assert api.send("PUT", "/limits", {"scope": "org", "concurrency": 5}).status_code == 200
    assert api.send("PUT", "/limits", {"scope": "org", "concurrency": 7}).status_code == 200
    assert api.send("DELETE", "/limits?scope=org").status_code == 200
    assert api.send("PUT", "/redaction", {"rules": ["card"]}).status_code == 200
    call_command("organization", "quotas", f"--org={org.slug}", "--events-per-second=9", stdout=io.StringIO())
    found = [(entry.verb, entry.details.get("before"), entry.details.get("after"))
             for entry in AuditEntry.objects.filter(org_id=org.id).order_by("id")]  # fmt: skip
    assert found[1] == ("limit.set", {"concurrency": 5}, {"concurrency": 7})
    assert found[2][1]["concurrency"] == 7
    assert found[3:] == [
        ("redaction.set", {"rules": []}, {"rules": ["card"]}),
        ("organization.quotas", {"events_per_s": None}, {"events_per_s": 9}),
    ]


def test_time_filters_are_exact_beside_the_index(org: Organization) -> None:
    first, second = write(org, "a"), write(org, "b")
    found = selectors.entries(org, AuditFilter(since=second.at, until=timezone.now()))
    assert [entry.id for entry in found.entries] == [second.id]
    assert first.at <= second.at
