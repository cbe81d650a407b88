"""Two who write in the admin at once, and what its forms share with the pages: the verbs, and what they refuse."""

from __future__ import annotations

import uuid
from html import unescape
from typing import Any

import pytest
from django.contrib.messages import constants
from django.db.models import Model
from django.test import Client

from tests.integration.admin.world import ROWS, World, address_of, login
from tests.support.admin_site import Forms, said, staff, successes
from tests.support.workers import publish
from throttling.models import ThrottleOverride
from workflows.engine.state import secret_sources
from workflows.models import AuditEntry, EventSchema, Flow, RetentionRule, Secret
from workflows.services.access import secrets

USES = [{"id": "pay", "type": "http_request", "config": {
    "url": "https://pay.example/", "method": "POST", "headers": {"authorization": "${ secrets.WALK_KEY }"},
}}]  # fmt: skip
WRITTEN: dict[type[Model], dict[str, str]] = {
    Secret: {"value": "another long enough value"},
    EventSchema: {"schema": '{"type": "object", "required": ["a"]}'},
    ThrottleOverride: {"concurrency": "7"},
    RetentionRule: {"days": "77"},
}
"""What another writes into a row that this page is open for."""


def form_of(client: Client, model: type[Model], address: str) -> dict[str, Any]:
    return Forms(client.get(address).content.decode(), f"{model._meta.model_name}_form").data


def fields_of(row: Any) -> dict[str, Any]:
    return {each.attname: getattr(row, each.attname) for each in row._meta.concrete_fields}


def test_a_text_does_not_publish_over_a_version_that_its_author_has_not_seen(world: World) -> None:
    slug = f"two-{uuid.uuid4().hex[:8]}"
    publish(world.org, [{"id": "a", "type": "noop"}], slug=slug)
    flow, boss = Flow.objects.get(organization=world.org, slug=slug), staff(superuser=True)
    change = f"{address_of(Flow)}{flow.pk}/change/"
    mine, theirs = form_of(boss, Flow, change), form_of(boss, Flow, change)
    text = f"flow: {slug}\nsteps: [{{id: %s, type: noop}}]"
    assert successes(boss.post(change, {**theirs, "definition": text % "theirs"}, follow=True))

    refused = boss.post(change, {**mine, "definition": text % "mine"})
    page = refused.content.decode()
    assert "Version 2 was published meanwhile, and this text is a change of version 1" in unescape(page)
    assert flow.versions.count() == 2
    again = Forms(page, "flow_form").data
    assert "mine" in again["definition"][0], "what was typed is lost"
    assert "Version 3 is published" in " ".join(successes(boss.post(change, again, follow=True)))
    refused = boss.post(change, {**again, "seen": "", "definition": text % "unseen"})
    assert refused.context["errors"]
    assert flow.versions.count() == 3


@pytest.mark.parametrize("model", WRITTEN, ids=lambda model: model._meta.label)
def test_a_form_does_not_write_over_what_its_author_has_not_seen(model: type[Model], world: World) -> None:
    row, boss = ROWS[model](world), staff(superuser=True)
    change = f"{address_of(model)}{row.pk}/change/"
    mine, theirs = form_of(boss, model, change), form_of(boss, model, change)
    assert successes(boss.post(change, {**theirs, **WRITTEN[model]}, follow=True))
    stored = fields_of(model._default_manager.get(pk=row.pk))
    refused = boss.post(change, {**mine, "value": "mine is long enough"})
    assert "It was changed since your page was made" in refused.content.decode()
    assert fields_of(model._default_manager.get(pk=row.pk)) == stored
    again = {**Forms(refused.content.decode(), f"{model._meta.model_name}_form").data, **WRITTEN[model]}
    assert said(boss.post(change, again, follow=True)), "seen by now, it can be saved"


def test_who_only_looks_sees_no_field_for_it(world: World) -> None:
    row = ROWS[RetentionRule](world)
    page = login("view", RetentionRule, world).get(f"{address_of(RetentionRule)}{row.pk}/change/")
    assert "field-seen" not in page.content.decode()


def test_a_secret_of_the_admin_is_stored_by_the_verb(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    boss, add = staff(superuser=True), f"{address_of(Secret)}add/"
    forgotten: list[uuid.UUID] = []
    monkeypatch.setattr(secret_sources, "forget", forgotten.append)
    sent = {
        **form_of(boss, Secret, add),
        "organization": str(world.org.id),
        "name": "WALK_NEW",
        "value": "long enough 1",
    }
    assert successes(boss.post(add, sent, follow=True))
    row = Secret.objects.get(organization=world.org, name="WALK_NEW")
    assert row.value == "long enough 1"
    change = f"{address_of(Secret)}{row.pk}/change/"
    assert successes(boss.post(change, {**form_of(boss, Secret, change), "value": "long enough 2"}, follow=True))
    row.refresh_from_db()
    assert row.value == "long enough 2"
    assert forgotten == [world.org.id] * 2, "this process goes on with the old value"
    entries = AuditEntry.objects.filter(object_id=str(row.pk)).order_by("id")
    assert [each.verb for each in entries] == ["admin.secret.add", "admin.secret.change"]
    assert entries[0].details["after"] == {"stored": True}


def test_a_secret_that_flows_use_is_not_deleted_in_the_admin(world: World) -> None:
    publish(world.org, USES, slug=f"uses-{uuid.uuid4().hex[:8]}")
    row, boss = secrets.set_secret(world.org, "WALK_KEY", "a long enough value"), staff(superuser=True)
    address = f"{address_of(Secret)}{row.pk}/delete/"
    answer = boss.post(address, {"post": "yes"}, follow=True)
    assert [level for level, _ in said(answer)] == [constants.ERROR]
    assert "is used by uses-" in said(answer)[0][1]
    assert Secret.objects.filter(pk=row.pk).exists()
    assert not AuditEntry.objects.filter(verb="admin.secret.delete", object_id=str(row.pk)).exists()
    listed = Forms(boss.get(address_of(Secret)).content.decode(), "changelist-form").options
    assert "delete_selected" not in listed.get("action", [])
