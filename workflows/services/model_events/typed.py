"""Typed events: a pydantic model is an event's data, checked where it is sent, and by its JSON Schema at other doors.

class OrderPaid(TypedEvent, name="shop/order.paid"):
    order_id: str
    amount: Decimal

OrderPaid(order_id="o-1", amount="12.50").send()  # in the open transaction
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel

from workflows.definitions import typed
from workflows.edge import transactions
from workflows.errors import InvalidInput
from workflows.models import Organization
from workflows.models.event import SYSTEM
from workflows.services import events

MAX_NAME = 200


class TypedEvent(BaseModel):
    """The base of typed events. `name` is the event's; a class without one is a base for others."""

    event_name: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if name and (name.startswith(SYSTEM) or len(name) > MAX_NAME):
            raise TypeError(
                f"{cls.__name__}: {name!r} is no name for an event (1 to {MAX_NAME} characters; those that begin with "
                f"{SYSTEM} are the system's own)."
            )
        cls.event_name = name

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", **more: Any) -> None:
        super().__pydantic_init_subclass__(**more)

    def send(self, *, organization: str = "default", user: Mapping[str, Any] | None = None, key: str = "") -> UUID:
        """Send the event, in the open transaction where there is one. Returns its id.

        `key`: sent again with it within 24 hours it starts nothing more. Raises as `services.send_events` does, and
        OtherTransaction.
        """
        transactions.refuse_other(f"{type(self).__name__}.send()")
        event = {"name": _named(type(self)), "data": typed.plain(self), "user": dict(user or {}), "id": key}
        return events.send(organization_of(organization), event)[0]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """The typed event of what a step or a receiver gets as `event`. Raises InvalidInput, with each path."""
        if event.get("name") != _named(cls):
            raise InvalidInput(f"The event is {event.get('name')!r}, and not {cls.event_name!r}.")
        return typed.typed(cls, event.get("data"), what="event.data")


def publish_schemas(kinds: Iterable[type[TypedEvent]] | None = None, *, organization: str = "default") -> list[str]:
    """Have every door refuse events of these names that do not fit; of all typed events that are imported, without
    `kinds`. Returns the names. Call it where an installation is deployed.

    Raises SchemaRefused for a model whose JSON Schema can't be used; nothing is changed then.
    """
    found = {_named(kind): kind for kind in (_all(TypedEvent) if kinds is None else kinds)}
    schemas = {name: typed.json_schema_of(kind) for name, kind in sorted(found.items())}
    owner = organization_of(organization)
    for name, schema in schemas.items():
        events.put_schema(owner, name, schema)
    return list(schemas)


def organization_of(slug: str) -> Organization:
    """Raises InvalidInput."""
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        raise InvalidInput(f"There is no organization {slug!r}; create it, or name another.")
    return found


def _all(kind: type[TypedEvent]) -> Iterator[type[TypedEvent]]:
    for each in kind.__subclasses__():
        if each.event_name:
            yield each
        yield from _all(each)


def _named(kind: type[TypedEvent]) -> str:
    if not kind.event_name:
        raise InvalidInput(f"{kind.__name__} names no event: class {kind.__name__}(TypedEvent, name=…).")
    return kind.event_name
