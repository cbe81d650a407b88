"""The pages of what audit entries name, by their kind; of what has gone there is no link."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from workflows.models import AccessKey, AuditEntry, BulkOperation, Event, EventSchema, Flow, Organization, Run
from workflows.selectors.access.objects import still_there

Address = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a kind of objects is shown. `model`: whose rows have the id in `field`; without one it is a page that is
    always there."""

    address: Address
    model: type[Model] | None = None
    field: str = "id"
    owner: str = "org_id"


def _page(name: str) -> Address:
    return lambda _: reverse(name)


def _page_of(name: str) -> Address:
    return lambda id_: reverse(name, args=[id_])


def _query(name: str, parameter: str) -> Address:
    return lambda id_: f"{reverse(name)}?{urlencode({parameter: id_})}"


def place_of(name: str, model: type[Model], **more: Any) -> Place:
    """A page with the id in its address."""
    return Place(address=_page_of(name), model=model, **more)


OF_ORGANIZATION: Mapping[str, Any] = {"owner": "organization_id"}
PLACES: Mapping[str, Place] = {
    "run": place_of("headrace:run", Run),
    "flow": place_of("headrace:flow", Flow, field="slug", **OF_ORGANIZATION),
    "event": place_of("headrace:event", Event),
    "operation": place_of("headrace:operation", BulkOperation),
    "event schema": Place(
        address=_query("headrace:event_schemas", "name"), model=EventSchema, field="name", **OF_ORGANIZATION
    ),
    "key": Place(address=_query("headrace:keys", "key"), model=AccessKey, **OF_ORGANIZATION),
    "access key": Place(address=_query("headrace:keys", "key"), model=AccessKey, **OF_ORGANIZATION),
    "secret": Place(address=_page("headrace:secrets")),
    "retention": Place(address=_query("headrace:retention", "subject")),
    "member": Place(address=_page("headrace:organization")),
    "organization": Place(address=_page("headrace:organization")),
    "limit": Place(address=_page("headrace:limit_history")),
    "queue": Place(address=_page("headrace:workers")),
    "schedules": Place(address=_page("headrace:schedules")),
}
REGISTERED: dict[str, Place] = {}
"""Those of other apps, by kind."""


def register(places: Mapping[str, Place]) -> None:
    """Add the kinds of an app."""
    REGISTERED.update(places)


def addresses(organization: Organization, entries: Iterable[AuditEntry]) -> dict[UUID, str]:
    """By entry, the page of what it was done to, where there is one and the object is still there."""
    by_kind: defaultdict[str, list[AuditEntry]] = defaultdict(list)
    for entry in entries:
        if entry.object_kind in PLACES or entry.object_kind in REGISTERED:
            by_kind[entry.object_kind].append(entry)
    found = {}
    for kind, named in by_kind.items():
        place = PLACES.get(kind) or REGISTERED[kind]
        ids = [entry.object_id for entry in named]
        there = (
            set(ids)
            if place.model is None
            else still_there(organization, place.model, ids, field=place.field, owner=place.owner)
        )
        for entry in named:
            if entry.object_id in there and (address := _address(place, entry.object_id)):
                found[entry.id] = address
    return found


def _address(place: Place, id_: str) -> str:
    try:
        return place.address(id_)
    except NoReverseMatch:
        return ""
