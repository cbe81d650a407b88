"""Events of models: in the transaction of the change, for what Django tells of, and for nothing else."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import serializers
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from tests.support.two_databases import ledger
from tests.support.workers import leave_nothing, nobody_dispatches, publish
from workflows.engine.events import matching
from workflows.errors import InvalidInput, OtherTransaction
from workflows.models import Event, Organization, Run
from workflows.services.model_events.decorator import on_commit_event


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test connects is connected no more afterwards."""
    kept = [(signal, list(signal.receivers)) for signal in (post_save, post_delete)]
    with nobody_dispatches():
        yield
    for signal, receivers in kept:
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


@pytest.fixture
def of_groups(org: Organization) -> None:
    """Groups are told of, but for quiet ones."""

    @on_commit_event(Group, organization=org.slug)
    def of_group(group: Group, change: str) -> dict[str, Any] | None:
        return None if group.name.startswith("quiet") else {"name": group.name, "id": group.pk, "change": change}

    assert callable(of_group)


def sent(org: Organization) -> list[tuple[str, str]]:
    return [(event.name, event.data["name"]) for event in Event.objects.filter(org_id=org.id).order_by("id")]


def name() -> str:
    return uuid.uuid4().hex


def test_each_change_is_an_event(org: Organization, of_groups: None) -> None:
    group = Group.objects.create(name=name())
    first, id_ = group.name, group.id
    group.name = name()
    group.save()
    with transaction.atomic():
        Group.objects.filter(id=id_).delete()
    assert sent(org) == [
        ("auth/group.created", first),
        ("auth/group.updated", group.name),
        ("auth/group.deleted", group.name),
    ]
    assert Event.objects.get(org_id=org.id, name="auth/group.deleted").data["id"] == id_


def test_the_event_starts_its_flow_when_the_transaction_commits(org: Organization, of_groups: None) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}], on=[{"event": "auth/group.created"}])
    with contextlib.suppress(RuntimeError), transaction.atomic():
        Group.objects.create(name=name())
        raise RuntimeError
    matching.match_left_over()
    assert (sent(org), Run.objects.filter(org_id=org.id).count()) == ([], 0)
    with transaction.atomic():
        group = Group.objects.create(name=name())
    matching.match_left_over()
    run = Run.objects.get(org_id=org.id, flow__slug=slug)
    assert run.input["id"] == group.id
    leave_nothing(org)


def test_writes_without_signals_are_silent(org: Organization, of_groups: None) -> None:
    groups = Group.objects.bulk_create([Group(name=name()) for _ in range(3)])
    Group.objects.filter(id=groups[0].id).update(name=name())
    groups[1].name = name()
    Group.objects.bulk_update(groups, ["name"])
    Group.objects.create(name=f"quiet {name()}")
    (loaded,) = serializers.deserialize(
        "json", serializers.serialize("json", [Group(id=1_000_000 + groups[0].id, name=name())])
    )
    loaded.save()  # a fixture
    assert sent(org) == []


def test_an_update_of_other_fields_is_passed_over(org: Organization) -> None:
    @on_commit_event(User, "shop/user.mail", on=["updated"], fields=["email"], organization=org.slug)
    def of_user(user: User, change: str) -> dict[str, Any]:
        return {"name": user.email, "change": change}

    assert callable(of_user)
    user = User.objects.create(username=name())
    user.first_name = "Ada"
    user.save(update_fields=["first_name"])
    assert sent(org) == []
    user.email = "ada@example.com"
    user.save(update_fields=["email", "first_name"])
    user.save()
    assert sent(org) == [("shop/user.mail", "ada@example.com")] * 2
    user.delete()


def test_an_import_twice_tells_once(org: Organization) -> None:
    def of_group(group: Group, change: str) -> dict[str, Any]:
        return {"name": group.name}

    for _ in range(2):
        on_commit_event(Group, on=["created"], organization=org.slug)(of_group)
    Group.objects.create(name=name())
    assert len(sent(org)) == 1


def test_what_can_not_be_sent_fails_the_save(org: Organization, of_groups: None) -> None:
    on_commit_event(Group, "shop/bad", on=["created"], organization=org.slug)(lambda group, change: {"set": {1}})
    before = Group.objects.count()
    with pytest.raises(Exception, match="JSON"), transaction.atomic():
        Group.objects.create(name=name())
    assert (Group.objects.count(), sent(org)) == (before, [])


def test_within_a_transaction_of_another_database_it_is_refused(org: Organization, of_groups: None) -> None:
    with ledger(in_transaction=True):
        with pytest.raises(OtherTransaction, match=r"The event of Group\.save\(\) within atomic\(using='ledger'\)"):
            Group.objects.create(name=name())
        with transaction.atomic():
            Group.objects.create(name=name())
    assert len(sent(org)) == 1


def test_mistakes_are_found_when_the_module_is_imported(org: Organization) -> None:
    for given, said in (
        ({"on": ["saved"]}, "give one or more of created, updated, deleted"),
        ({"on": []}, "give one or more"),
        ({"fields": ["nmae"]}, "Group has no field 'nmae'"),
        ({"name": "headrace/mine"}, "no name for an event"),
        ({"name": "n" * 191}, "no name for an event"),
    ):
        with pytest.raises(ValueError, match=said):
            on_commit_event(Group, **given)  # type: ignore[arg-type]
    on_commit_event(Group, organization="nowhere")(lambda group, change: {})
    with pytest.raises(InvalidInput, match="no organization 'nowhere'; create it"), transaction.atomic():
        Group.objects.create(name=name())
