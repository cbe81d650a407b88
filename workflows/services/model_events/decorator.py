"""`on_commit_event`: an event for each instance of a model that is created, updated or deleted.

The event is stored in the transaction of the change: rolled back with it, it never was. Django tells of instances that
are saved or deleted one by one (and of those that `QuerySet.delete` deletes); `update()`, `bulk_create`, `bulk_update`
and raw SQL send no signal, and so no event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from workflows.edge import transactions
from workflows.models.event import SYSTEM
from workflows.services import events
from workflows.services.model_events.typed import organization_of

Change = Literal["created", "updated", "deleted"]
CHANGES: tuple[Change, ...] = get_args(Change)
Payload = Callable[[Any, Change], Mapping[str, Any] | None]
P = TypeVar("P", bound=Payload)


def on_commit_event(
    model: type[Model],
    name: str = "",
    *,
    on: Collection[Change] = CHANGES,
    fields: Collection[str] = (),
    organization: str = "default",
) -> Callable[[P], P]:
    """A decorator of a function that gives the data of the event, from the instance and what became of it
    (`created`, `updated`, `deleted`); None sends nothing.

    `name`: the event's; `{change}` in it is what became of the instance. Without one it is
    `<app>/<model>.{change}`. `fields`: an update by `save(update_fields=…)` that has none of these sends nothing.

    Raises ValueError at once for a change, a field or a name that there can't be. What the event is refused with
    (EventsRefused, OtherTransaction, PayloadTooLarge) is raised by `save()` and `delete()`.
    """
    source = _Source(
        model=model,
        name=name or f"{model._meta.app_label}/{model._meta.model_name}.{{change}}",
        on=frozenset(on),
        fields=frozenset(fields),
        organization=organization,
    )
    source.check()

    def decorate(payload: P) -> P:
        identity = f"{source.name} {payload.__module__}.{getattr(payload, '__qualname__', '')}"

        def saved(instance: Any, created: bool, raw: bool, update_fields: Collection[str] | None, **_: Any) -> None:
            change: Change = "created" if created else "updated"
            if not raw and source.tells(change, update_fields):
                source.send(payload, instance, change)

        def deleted(instance: Any, **_: Any) -> None:
            if source.tells("deleted", None):
                source.send(payload, instance, "deleted")

        post_save.connect(saved, sender=model, weak=False, dispatch_uid=f"headrace saved {identity}")
        post_delete.connect(deleted, sender=model, weak=False, dispatch_uid=f"headrace deleted {identity}")
        return payload

    return decorate


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What is sent of a model, and when."""

    model: type[Model]
    name: str
    on: frozenset[Change]
    fields: frozenset[str]
    organization: str

    def check(self) -> None:
        """Raises ValueError."""
        unknown = sorted(set(self.on) - set(CHANGES))
        if unknown or not self.on:
            raise ValueError(f"on_commit_event(on={unknown}): give one or more of {', '.join(CHANGES)}.")
        if self.name.startswith(SYSTEM) or not 1 <= len(self.name) <= 190:
            raise ValueError(f"on_commit_event: {self.name!r} is no name for an event (1 to 190 characters; those that "
                             f"begin with {SYSTEM} are the system's own).")  # fmt: skip
        for field in self.fields:
            try:
                self.model._meta.get_field(field)
            except FieldDoesNotExist:
                raise ValueError(f"on_commit_event(fields=…): {self.model.__name__} has no field {field!r}.") from None

    def tells(self, change: Change, update_fields: Collection[str] | None) -> bool:
        if change not in self.on:
            return False
        named = change == "updated" and self.fields and update_fields is not None
        return not named or not self.fields.isdisjoint(update_fields or ())

    def send(self, payload: Payload, instance: Model, change: Change) -> None:
        data = payload(instance, change)
        if data is None:
            return
        transactions.refuse_other(f"The event of {self.model.__name__}.{'delete' if change == 'deleted' else 'save'}()")
        found = organization_of(self.organization)
        events.send(found, {"name": self.name.replace("{change}", change), "data": dict(data)})
