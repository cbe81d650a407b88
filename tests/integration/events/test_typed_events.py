"""Typed events: checked where they are sent, and by their schema at every other door."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from pydantic import Field, ValidationError

from tests.support.workers import nobody_dispatches
from workflows import services
from workflows.definitions.json_schema import SchemaRefused
from workflows.errors import InvalidInput
from workflows.models import Event, EventSchema, Organization
from workflows.services.events import EventsRefused
from workflows.services.model_events.typed import TypedEvent, publish_schemas


class OrderEvent(TypedEvent):
    order: str = Field(min_length=1)


class OrderPaid(OrderEvent, name="shop/order.paid"):
    amount: int = Field(ge=1, alias="amountCents")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with nobody_dispatches():
        yield


def test_a_typed_event_is_an_event(org: Organization) -> None:
    with contextlib.suppress(RuntimeError), transaction.atomic():
        OrderPaid(order="o", amountCents=5).send(organization=org.slug)
        raise RuntimeError
    assert not Event.objects.filter(org_id=org.id).exists()
    id_ = OrderPaid(order="o", amountCents=5).send(organization=org.slug, user={"id": "u"})
    event = Event.objects.get(id=id_)
    assert (event.name, event.data, event.user) == ("shop/order.paid", {"order": "o", "amountCents": 5}, {"id": "u"})
    assert OrderPaid.of({"name": event.name, "data": event.data}) == OrderPaid(order="o", amountCents=5)


def test_an_event_that_is_sent_twice_is_one(org: Organization) -> None:
    key = uuid.uuid4().hex
    for _ in range(2):
        OrderPaid(order="o", amountCents=5).send(organization=org.slug, key=key)
    assert Event.objects.filter(org_id=org.id, rejected="").values("external_id").distinct().count() == 1


def test_every_door_has_the_same_form(org: Organization) -> None:
    bad: dict[str, Any] = {"order": "", "amountCents": 0}
    with pytest.raises(ValidationError):
        OrderPaid(**bad)
    services.send_events(org, {"name": "shop/order.paid", "data": bad})  # nobody has said otherwise yet
    assert publish_schemas([OrderPaid], organization=org.slug) == ["shop/order.paid"]
    assert "shop/order.paid" in publish_schemas(organization=org.slug)  # of all that are imported
    assert EventSchema.objects.get(organization=org, name="shop/order.paid").schema["required"] == [
        "order",
        "amountCents",
    ]
    with pytest.raises(EventsRefused, match=r"data\.amountCents.*data\.order"):
        services.send_events(org, {"name": "shop/order.paid", "data": bad})
    OrderPaid(order="o", amountCents=5).send(organization=org.slug)
    with pytest.raises(InvalidInput, match=r"event\.data\.order: .*event\.data\.amountCents"):
        OrderPaid.of({"name": "shop/order.paid", "data": bad})
    with pytest.raises(InvalidInput, match="and not 'shop/order.paid'"):
        OrderPaid.of({"name": "shop/other", "data": {}})


def test_a_class_without_a_name_is_no_event(org: Organization) -> None:
    with pytest.raises(InvalidInput, match=r"OrderEvent names no event: class OrderEvent\(TypedEvent, name=…\)"):
        OrderEvent(order="o").send(organization=org.slug)
    with pytest.raises(TypeError, match="no name for an event"):
        type("Mine", (TypedEvent,), {}, name="headrace/mine")
    with pytest.raises(InvalidInput, match="no organization 'nowhere'"):
        OrderPaid(order="o", amountCents=5).send(organization="nowhere")


def test_a_model_without_a_schema_changes_nothing(org: Organization) -> None:
    odd: Any = type("Odd", (TypedEvent,), {"__annotations__": {"what": type}, "__module__": __name__}, name="shop/odd")
    with pytest.raises(SchemaRefused, match="Odd: "):
        publish_schemas([OrderPaid, odd], organization=org.slug)
    assert not EventSchema.objects.filter(organization=org).exists()
    odd.event_name = ""  # it is one of all that are imported no more
