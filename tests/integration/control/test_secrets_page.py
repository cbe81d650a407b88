"""Secrets by page, REST and command: names, sources, users; no answer has a value, and none that is used goes unasked."""

from __future__ import annotations

import ast
import inspect
import io
import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tests.integration.access.test_keys import issued
from tests.integration.dashboard.people import member
from tests.support.workers import publish
from workflows import this_process
from workflows.engine.state import secret_sources
from workflows.engine.state.secret_sources import AwsSecrets, SecretValues
from workflows.errors import ConfigurationFailure, InvalidInput
from workflows.models import AuditEntry, Flow, FlowVersion, Organization, Secret
from workflows.selectors.access.secret_names import ANY, NamesOfVersions, named_secrets, names_in, names_in_code
from workflows.selectors.access.secrets import secret_names
from workflows.services.access import secrets
from workflows.services.flows import archiving
from workflows.this_process import configuration as told

VALUE = "sk_live_0123456789"
PAYS = [{"id": "pay", "type": "http_request", "config": {
    "url": "https://pay.example/charges", "method": "POST", "headers": {"authorization": "Bearer ${ secrets.PAY_KEY }"},
}}]  # fmt: skip


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    this_process.forget(SecretValues)
    yield
    this_process.forget(SecretValues)


@pytest.fixture
def admin(org: Organization) -> Client:
    return member(org, "admin")


def stored(org: Organization) -> dict[str, str]:
    return {row.name: row.value for row in Secret.objects.filter(organization=org)}


def entries(org: Organization) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(org_id=org.id).order_by("id"))


# --- who names a secret ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Bearer ${ secrets.PAY_KEY }", ["PAY_KEY"]),
        ("${ secrets['A'] + secrets.B }", ["A", "B"]),
        ("${ has(secrets.A) ? secrets.A : 'x' }", ["A", "A"]),
        ("${ [1].map(n, secrets.A) }", ["A"]),
        ("${ secrets[input.region] }", [ANY]),
        ("${ secrets }", [ANY]),
        ("$${ secrets.A }", []),
        ("${ input.secrets }", []),
        ("secrets.A", []),
        ("${ secrets.A", []),
        ("${ 1 + }", []),
    ],
)
def test_the_names_in_a_template(text: str, names: list[str]) -> None:
    assert list(names_in(text)) == names


CODE = """
KEY = "x"
def charge(step):
    return step.secret("PAY_KEY")
def other(step):
    return step.secret("OTHER")
async def flow(event, step):
    step.secret(KEY)
    step.secret(name="NAMED")
    return charge(step)
"""


def test_the_names_in_the_code_of_a_flow_and_what_it_calls() -> None:
    tree = ast.parse(CODE)
    assert sorted(names_in_code(tree, "flow")) == [ANY, "NAMED", "PAY_KEY"]
    assert list(names_in_code(tree, "nothing")) == []


def test_the_flows_in_use_that_name_a_secret_are_found_and_read_once(
    org: Organization, django_assert_max_num_queries: Any
) -> None:
    publish(org, PAYS, slug="pays")
    publish(org, [{"id": "a", "type": "noop"}], slug="plain")
    publish(org, [{"id": "a", "type": "noop"}], slug="hears", on=[{"webhook": "github", "secret": "GITHUB_SECRET"}])
    publish(org, [{**PAYS[0], "config": {"url": "https://x.example/${ secrets[input.r] }"}}], slug="computes")
    publish(org, PAYS, slug="gone")
    archiving.archive(org, "gone", by="test")
    found = named_secrets(org)
    assert found.flows == {"PAY_KEY": ["pays"], "GITHUB_SECRET": ["hears"]}
    assert (found.computing, found.unread) == (["computes"], [])
    with django_assert_max_num_queries(3):
        assert named_secrets(org) == found
    publish(org, [{"id": "a", "type": "noop"}], slug="pays")
    assert "PAY_KEY" not in named_secrets(org).flows


def test_a_flow_in_python_without_its_code_here_is_not_known(
    org: Organization, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="code")
    flow = Flow.objects.get(organization=org, slug="code")
    definition = {"steps": [{"id": "main", "type": "function", "config": {"function": "no_such_module:flow"}}]}
    version = FlowVersion.objects.create(flow=flow, number=9, definition=definition, checksum="x")
    Flow.objects.filter(id=flow.id).update(kind="code", current=version)
    assert named_secrets(org).unread == ["code"]
    definition["steps"][0]["config"] = {"function": f"{__name__}:asks"}
    version = FlowVersion.objects.create(flow=flow, number=10, definition=definition, checksum="y")
    Flow.objects.filter(id=flow.id).update(current=version)
    found = named_secrets(org)
    assert (found.flows, found.unread) == ({"ASKED_BY_CODE": ["code"]}, [])
    parsed: list[str] = []
    monkeypatch.setattr(inspect, "getsource", lambda module: parsed.append(module.__name__) or "")
    with django_assert_max_num_queries(2):
        assert named_secrets(org) == found
    assert parsed == [], "code is read once"
    monkeypatch.setitem(sys.modules, __name__, types.ModuleType(__name__))
    assert named_secrets(org).flows == {}
    assert parsed == [__name__], "other code is read anew"


def asks(event: Any, step: Any) -> Any:
    return step.secret("ASKED_BY_CODE")


# --- sources --------------------------------------------------------------------------------------------------------


def test_each_name_says_which_source_counts_and_what_no_source_has_is_missing(
    org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, PAYS, slug="pays")
    (missing,) = secret_names(org).missing
    assert (missing.name, missing.flows) == ("PAY_KEY", ["pays"])
    assert "Flows ask for what no source has" in admin.get("/secrets/").content.decode()
    part = told.variable_part(org.slug)
    monkeypatch.setenv(f"HEADRACE_SECRET_{part}__PAY_KEY", "of-environment")
    monkeypatch.setenv(f"HEADRACE_SECRET_{part}__ELSEWHERE", "of-environment")
    secrets.set_secret(org, "MINE", VALUE)
    this_process.forget(SecretValues)
    found = {row.name: (row.source, row.also_in, row.flows) for row in secret_names(org).rows}
    assert found == {
        "ELSEWHERE": ("environment", [], []), "MINE": ("database", [], []), "PAY_KEY": ("environment", [], ["pays"]),
    }  # fmt: skip
    secrets.set_secret(org, "PAY_KEY", VALUE)
    (row,) = (each for each in secret_names(org).rows if each.name == "PAY_KEY")
    assert (row.source, row.also_in) == ("database", ["environment"])
    shown = admin.get("/secrets/?name=PAY_KEY").content.decode()
    assert "environment" in shown
    assert "of-environment" not in shown
    assert VALUE not in shown


def test_while_a_source_is_away_nothing_is_said_to_be_missing(
    org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, PAYS, slug="pays")

    def away(*_: Any) -> Any:
        raise ConfigurationFailure("AWS does not answer.")

    monkeypatch.setattr(AwsSecrets, "read", away)
    monkeypatch.setattr(secret_sources, "configuration", _Told)
    found = secret_names(org)
    assert (found.missing, found.failed_sources) == ([], ["AWS does not answer."])
    assert "AWS does not answer." in admin.get("/secrets/").content.decode()


class _Told:
    aws_secrets_prefix = "headrace/"


def test_a_value_that_no_key_opens_is_told_until_it_is_stored_anew(org: Organization, admin: Client) -> None:
    Secret.objects.create(organization=org, name="BROKEN", ciphertext=b"x")
    assert "encrypted under another" in admin.get("/secrets/").content.decode()
    admin.post("/secrets/", {"name": "BROKEN", "value": VALUE})
    assert "encrypted under another" not in admin.get("/secrets/").content.decode()
    assert stored(org) == {"BROKEN": VALUE}


# --- the page -------------------------------------------------------------------------------------------------------


def test_a_secret_is_stored_replaced_and_never_shown(org: Organization, admin: Client) -> None:
    pem = "-----BEGIN KEY-----\r\nabc\r\n-----END KEY-----\r\n"
    assert admin.post("/secrets/", {"name": "PEM", "value": pem, "seen": ""}).status_code == 302
    assert stored(org) == {"PEM": "-----BEGIN KEY-----\nabc\n-----END KEY-----"}
    page = admin.get("/secrets/?name=PEM")
    (row,) = page.context["rows"]
    assert row.by.startswith("login admin-")
    late = {"name": "PEM", "value": VALUE, "seen": row.seen}
    admin.post("/secrets/", late)
    assert stored(org) == {"PEM": VALUE}
    answer = admin.post("/secrets/", {**late, "value": "too-late-a-value"}, follow=True)
    assert "was changed since your page was made" in answer.content.decode()
    assert stored(org) == {"PEM": VALUE}
    for address in ("/secrets/", "/secrets/?name=PEM", "/audit/", "/secrets/?q=pe"):
        text = admin.get(address).content.decode()
        assert VALUE not in text
        assert "BEGIN KEY" not in text
    said = [(each.verb, each.object_id, each.details.get("before")) for each in entries(org)]
    assert said == [("secret.set", "PEM", {"stored": False}), ("secret.set", "PEM", None)]
    assert VALUE not in json.dumps([each.details for each in entries(org)])


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "1A"}, {"name": "a-b"}, {"name": "x" * 101}, {"name": "ä"}, {"value": ""}, {"value": " \n "},
     {"value": "x" * 100_001}],
    ids=lambda wrong: str(wrong)[:30],
)  # fmt: skip
def test_what_no_secret_can_be_is_refused_and_the_value_does_not_come_back(
    org: Organization, admin: Client, wrong: dict[str, str]
) -> None:
    answer = admin.post("/secrets/", {"name": "GOOD", "value": VALUE, **wrong}, follow=True)
    text = answer.content.decode()
    assert 'class="message error"' in text
    assert VALUE not in text
    assert stored(org) == {}
    assert entries(org) == []


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_who_may_not_change_secrets_sees_no_page_and_changes_none(org: Organization, role: str) -> None:
    secrets.set_secret(org, "MINE", VALUE)
    client = member(org, role)
    assert b"/secrets/" not in client.get("/").content
    assert client.get("/secrets/").status_code == 403
    assert client.post("/secrets/", {"name": "MINE", "value": "x" * 9}).status_code == 403
    assert client.post("/secrets/delete/", {"name": "MINE"}).status_code == 403
    assert stored(org) == {"MINE": VALUE}


def test_a_secret_that_flows_use_goes_only_where_the_page_has_named_them_all(org: Organization, admin: Client) -> None:
    publish(org, PAYS, slug="pays")
    secrets.set_secret(org, "PAY_KEY", VALUE)
    assert "steps of pays" in admin.get("/secrets/?name=PAY_KEY").content.decode()
    publish(org, PAYS, slug="pays-too")
    answer = admin.post("/secrets/delete/", {"name": "PAY_KEY", "flows": "pays"}, follow=True)
    assert "Nothing was deleted" in answer.content.decode()
    assert stored(org) == {"PAY_KEY": VALUE}
    answer = admin.post("/secrets/delete/", {"name": "PAY_KEY", "flows": "pays pays-too"}, follow=True)
    assert "will ask for it in vain" in answer.content.decode()
    assert stored(org) == {}
    assert [each.verb for each in entries(org)] == ["secret.delete"]
    for bad in ("PAY_KEY", "", "x" * 300):
        answer = admin.post("/secrets/delete/", {"name": bad}, follow=True)
        assert "There is no secret" in answer.content.decode(), bad
    secrets.set_secret(org, "A" * 100, VALUE)
    with pytest.raises(secrets.SecretNotFound):
        secrets.delete_secret(org, "A" * 101)
    assert stored(org) == {"A" * 100: VALUE}


def test_a_secret_that_another_source_has_too_is_deleted_unasked(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, PAYS, slug="pays")
    monkeypatch.setenv(f"HEADRACE_SECRET_{told.variable_part(org.slug)}__PAY_KEY", "of-environment")
    secrets.set_secret(org, "PAY_KEY", VALUE)
    assert secrets.delete_secret(org, "PAY_KEY").flows == []


def test_while_a_source_is_away_a_deletion_says_that_it_may_have_the_secret(
    org: Organization, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(org, PAYS, slug="pays")
    secrets.set_secret(org, "PAY_KEY", VALUE)

    def away(*_: Any) -> Any:
        raise ConfigurationFailure("AWS does not answer.")

    monkeypatch.setattr(AwsSecrets, "read", away)
    monkeypatch.setattr(secret_sources, "configuration", _Told)
    this_process.forget(SecretValues)
    assert "Whether another source has it is not known" in admin.get("/secrets/?name=PAY_KEY").content.decode()
    with pytest.raises(secrets.SecretInUse, match="whether another source has it is not known: AWS does not answer."):
        secrets.delete_secret(org, "PAY_KEY")
    _, api = issued(org, "change_secrets")
    assert "AWS does not answer" in api.send("DELETE", "/secrets/PAY_KEY").json()["detail"]
    err = io.StringIO()
    call_command("secret", "--org", org.slug, "delete", "PAY_KEY", "--force", stderr=err)
    assert "pays will ask for it in vain, unless a source has it that can't be read now. AWS does not" in err.getvalue()
    secrets.set_secret(org, "PAY_KEY", VALUE)
    answer = api.send("DELETE", "/secrets/PAY_KEY?force=true").json()
    assert (answer["leftWithout"], answer["unreadSources"]) == (["pays"], ["AWS does not answer."])
    secrets.set_secret(org, "PAY_KEY", VALUE)
    page = admin.post("/secrets/delete/", {"name": "PAY_KEY", "flows": "pays"}, follow=True).content.decode()
    assert "unless a source has it that can&#x27;t be read now" in page


def test_another_organizations_secrets_are_not_there(org: Organization, other: Organization, admin: Client) -> None:
    secrets.set_secret(other, "THEIRS", VALUE)
    assert "THEIRS" not in admin.get("/secrets/").content.decode()
    admin.post("/secrets/delete/", {"name": "THEIRS", "flows": ""})
    admin.post("/secrets/", {"name": "THEIRS", "value": "mine-alone"})
    assert (stored(other), stored(org)) == ({"THEIRS": VALUE}, {"THEIRS": "mine-alone"})


# --- REST -----------------------------------------------------------------------------------------------------------


def test_secrets_by_rest_have_a_scope_an_entry_and_no_value(org: Organization) -> None:
    publish(org, PAYS, slug="pays")
    row, api = issued(org, "change_secrets")
    assert api.get("/secrets").json()["missing"] == [{"name": "PAY_KEY", "usedBy": ["pays"]}]
    answer = api.send("PUT", "/secrets/PAY_KEY", {"value": VALUE})
    assert (answer.status_code, answer.json()["name"]) == (200, "PAY_KEY")
    listed = api.get("/secrets")
    (found,) = listed.json()["secrets"]
    assert (found["source"], found["usedBy"], found["problem"]) == ("database", ["pays"], None)
    assert found["updatedBy"] == f"key {row.prefix}… (test)"
    assert VALUE not in answer.content.decode() + listed.content.decode()
    refused = api.send("DELETE", "/secrets/PAY_KEY")
    assert (refused.status_code, refused.json()["code"], refused.json()["flows"]) == (409, "secret_in_use", "pays")
    assert api.send("DELETE", "/secrets/PAY_KEY?force=true").json()["leftWithout"] == ["pays"]
    assert api.send("DELETE", "/secrets/PAY_KEY").json()["code"] == "secret_not_found"
    assert [(each.verb, each.object_id) for each in entries(org)] == [
        ("secret.set", "PAY_KEY"), ("secret.delete", "PAY_KEY"),
    ]  # fmt: skip
    assert VALUE not in json.dumps([each.details for each in entries(org)])
    weak = issued(org, "change_keys")[1]
    for method, path, body in (("GET", "/secrets", None), ("PUT", "/secrets/A", {"value": VALUE}),
                               ("DELETE", "/secrets/A", None)):  # fmt: skip
        assert weak.send(method, path, body).json()["scope"] == "change_secrets"


@pytest.mark.parametrize(
    ("name", "body"),
    [("1A", {"value": VALUE}), ("A", {"value": ""}), ("A", {"value": 5}), ("A", {}), ("A", {"value": "x" * 100_001}),
     ("A", {"value": VALUE, "more": 1}), ("A", {"value": f"{VALUE}\0"}), ("x" * 101, {"value": VALUE})],
    ids=lambda each: str(each)[:30],
)  # fmt: skip
def test_what_rest_refuses_is_said_without_the_value(org: Organization, name: str, body: dict[str, Any]) -> None:
    answer = issued(org)[1].send("PUT", f"/secrets/{name}", body)
    assert answer.status_code == 422
    assert VALUE not in answer.content.decode()
    assert stored(org) == {}


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_lists_sources_and_asks_for_force(org: Organization) -> None:
    publish(org, PAYS, slug="pays")
    out = io.StringIO()
    call_command("secret", "list", f"--org={org.slug}", stdout=out)
    assert "missing: PAY_KEY" in out.getvalue()
    secrets.set_secret(org, "PAY_KEY", VALUE)
    out = io.StringIO()
    call_command("secret", "list", f"--org={org.slug}", "--json", stdout=out)
    (found,) = json.loads(out.getvalue())
    assert (found["name"], found["source"], found["usedBy"]) == ("PAY_KEY", "database", ["pays"])
    assert VALUE not in out.getvalue()
    with pytest.raises(CommandError, match="used by pays"):
        call_command("secret", "delete", "PAY_KEY", f"--org={org.slug}", stdout=io.StringIO())
    assert stored(org) == {"PAY_KEY": VALUE}
    call_command(
        "secret", "delete", "PAY_KEY", "--force", f"--org={org.slug}", stdout=io.StringIO(), stderr=io.StringIO()
    )
    assert stored(org) == {}
    assert [each.verb for each in entries(org)] == ["secret.delete"]


def test_names_are_kept_by_version_and_bounded(org: Organization) -> None:
    publish(org, PAYS, slug="pays")
    version = Flow.objects.get(organization=org, slug="pays").current_id
    assert version is not None
    names = NamesOfVersions()
    assert names.of([version]) == {version: frozenset({"PAY_KEY"})}
    assert names.of([]) == {}
    with pytest.raises(InvalidInput):
        secrets.set_secret(org, "bad name", VALUE)
