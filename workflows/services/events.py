"""Taking in events from outside: their form, the schemas of their names, and the key that says whose they are."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workflows.definitions.json_schema import compile_schema, stored_schema
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.errors import EventNotFound, InvalidInput, WorkflowsError
from workflows.models import AccessKey, Event, EventSchema, Organization
from workflows.models.event import SYSTEM
from workflows.payload import MAX_SCHEMA_BYTES, dump, text_fault
from workflows.services import access_keys
from workflows.this_process.configuration import configuration

MAX_EVENTS = 5_000
MAX_PROBLEMS = 100
MAX_CHECKING_S = 5.0
"""What the events of one request may take to be checked: each has a bound of its own, and there may be 5,000."""


class EventIn(BaseModel):
    """An event as Inngest's clients send it. Fields that are not known here are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    data: dict[str, Any] = Field(default_factory=dict)
    user: dict[str, Any] = Field(default_factory=dict)
    id: Annotated[str, Field(max_length=200)] = ""
    ts: Annotated[int, Field(ge=0, le=253_402_300_799_999)] = 0

    @field_validator("data", "user", mode="before")
    @classmethod
    def _null_is_nothing(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("id", mode="before")
    @classmethod
    def _null_is_none(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("ts", mode="before")
    @classmethod
    def _null_is_now(cls, value: Any) -> Any:
        return 0 if value is None else value

    @field_validator("name")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value.startswith(SYSTEM):
            raise ValueError(f"names that begin with {SYSTEM} are the system's own")
        return value


@dataclass(frozen=True, kw_only=True)
class EventProblem:
    """What is wrong with one of the events: its place in the array, and the path within it."""

    index: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"events[{self.index}]{'.' if self.path else ''}{self.path}: {self.message}"


class EventsRefused(WorkflowsError):
    """Events were refused; none of them was taken in."""

    status, code = 400, "events_refused"

    def __init__(self, problems: Sequence[EventProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems[:10]))
        self.problems = list(problems[:MAX_PROBLEMS])


def send(
    organization: Organization, payload: Any, *, before_storing: Callable[[int], None] | None = None
) -> list[UUID]:
    """Take in one event or an array of them, all or none. Returns their ids, in order.

    `before_storing` gets their number once each of them has the form of an event; what it raises refuses them.
    Raises EventsRefused (each problem with its path; what does not fit the schema of its name is kept as rejected),
    PayloadTooLarge or InvalidOutput.
    """
    listed = payload if isinstance(payload, list) else [payload]
    if not 1 <= len(listed) <= MAX_EVENTS:
        raise EventsRefused([EventProblem(index=0, path="", message=f"send 1 to {MAX_EVENTS:,} events at once")])
    parsed, problems = _parse(listed)
    if problems:
        raise EventsRefused(problems)
    if before_storing is not None:
        before_storing(len(parsed))
    misfits = _misfits(organization, parsed)
    if misfits:
        _keep(organization, parsed, misfits)
        raise EventsRefused([problem for found in misfits.values() for problem in found])
    return receive.receive(organization.id, [_new(event) for event in parsed])


def resend(organization: Organization, event_id: UUID) -> UUID:
    """Send a stored event again, as a new one that happens now. Returns its id.

    One that came at a webhook's address starts that flow alone again; any other goes to all that listen to its name,
    and must fit the schema that the name has now. Raises EventNotFound, InvalidInput (the system's own), EventsRefused.
    """
    event = Event.objects.filter(org_id=organization.id, id=event_id).first()
    if event is None:
        raise EventNotFound
    if event.name.startswith(SYSTEM):
        raise InvalidInput(
            f"{event.name} is an event of the system: it tells what happened once, and is not sent again."
        )
    if event.trigger_id is None:
        return send(organization, {"name": event.name, "data": event.data, "user": event.user})[0]
    new = NewEvent(name=event.name, data=event.data, user=event.user, trigger_id=event.trigger_id)
    return receive.receive(organization.id, [new])[0]


def plain(listed: Sequence[Any]) -> list[NewEvent] | None:
    """The events as they are stored; None where something is wrong with one of them, or with how many there are."""
    if not 1 <= len(listed) <= MAX_EVENTS:
        return None
    parsed, problems = _parse(listed)
    return None if problems else [_new(event) for event in parsed]


def _parse(listed: Sequence[Any]) -> tuple[list[EventIn], list[EventProblem]]:
    parsed, problems = [], []
    for index, item in enumerate(listed):
        try:
            event = EventIn.model_validate(item)
        except ValidationError as error:
            problems += [
                EventProblem(
                    index=index, path=".".join(map(str, each["loc"])), message=each["msg"].removeprefix("Value error, ")
                )
                for each in error.errors(include_url=False)
            ]
            continue
        for path, text in (("name", event.name), ("id", event.id)):
            if found := text_fault(text):
                problems.append(EventProblem(index=index, path=path, message=f"a text holds {found}"))
        parsed.append(event)
    return parsed, problems


def _misfits(organization: Organization, parsed: Sequence[EventIn]) -> dict[int, list[EventProblem]]:
    """By place: what does not fit the schemas of the events' names."""
    rows = EventSchema.objects.filter(organization=organization, name__in={event.name for event in parsed})
    schemas = {row.name: stored_schema(row.schema) for row in rows}
    misfits: dict[int, list[EventProblem]] = {}
    begun = time.monotonic()
    for index, event in enumerate(parsed):
        if event.name in schemas:
            if time.monotonic() - begun > MAX_CHECKING_S:
                raise InvalidInput("Checking these events against their schemas takes too long: send fewer at once.")
            problems = schemas[event.name].problems(event.data)
            if problems:
                misfits[index] = [
                    EventProblem(index=index, path=each.at("data"), message=each.message) for each in problems
                ]
    return misfits


def _keep(organization: Organization, parsed: Sequence[EventIn], misfits: dict[int, list[EventProblem]]) -> None:
    """Rejected events stay to be looked at; they start nothing."""
    now = timezone.now()
    rows = []
    for index, problems in misfits.items():
        new = _new(parsed[index])
        rows.append(
            Event(
                org_id=organization.id,
                name=new.name,
                data=new.data,
                user=new.user,
                ts=new.ts or now,
                external_id=new.external_id,
                matched_at=now,
                rejected="; ".join(f"{problem.path}: {problem.message}" for problem in problems)[:2_000],
            )
        )
    Event.objects.bulk_create(rows)


def _new(event: EventIn) -> NewEvent:
    at = dt.datetime.fromtimestamp(event.ts / 1000, dt.UTC) if event.ts else None
    return NewEvent(name=event.name, data=event.data, user=event.user, ts=at, external_id=event.id)


class SchemaChanged(WorkflowsError):
    """The schema was changed since you looked: open it again, and make your change there."""

    status, code = 409, "event_schema_changed"


def _stored(organization: Organization, name: str, seen: str | None) -> EventSchema | None:
    """The schema of a name, locked. Raises SchemaChanged where it is not the one that was seen."""
    row = EventSchema.objects.select_for_update().filter(organization=organization, name=name).first()
    if seen is not None and seen != (row.updated_at.isoformat() if row is not None else ""):
        now = "was changed" if row is not None else "was deleted"
        raise SchemaChanged(f"The schema of this name {now} meanwhile: open it again, and make your change there.")
    return row


def put_schema(organization: Organization, name: str, schema: Any, *, seen: str | None = None) -> EventSchema:
    """Set the form that events of a name must have. `seen`: when the schema that the caller knows of was written;
    empty: there was none.

    Raises InvalidInput for what is no JSON Schema that resolves within itself, SchemaChanged.
    """
    if not 1 <= len(name) <= 200 or text_fault(name):
        raise InvalidInput("name: 1 to 200 characters, without NUL.")
    check_schema(schema)
    with transaction.atomic():
        _stored(organization, name, seen)
        row, _ = EventSchema.objects.update_or_create(organization=organization, name=name, defaults={"schema": schema})
    return row


def check_schema(schema: Any) -> None:
    """Raises InvalidInput for what is no JSON Schema that resolves within itself, and PayloadTooLarge."""
    dump(schema, what="The schema", limit_bytes=MAX_SCHEMA_BYTES)
    compile_schema(schema)


def delete_schema(organization: Organization, name: str, *, seen: str | None = None) -> bool:
    """Events of the name may have any form again. Returns whether there was a schema. `seen`: as for `put_schema`."""
    with transaction.atomic():
        row = _stored(organization, name, seen)
        return row is not None and bool(row.delete()[0])


def owner_of(key: str, *, on_this_machine: bool) -> Organization | None:
    """The organization of an event key that is in force. Raises KeyExpired.

    In development, for a program `on_this_machine`, a key that was never issued will do: clients without one send a
    placeholder. What they send belongs to the first organization.
    """
    found = access_keys.find_valid(key, AccessKey.Kind.EVENT)
    if found is not None:
        return found.organization
    if configuration().any_event_key_on_loopback and on_this_machine and access_keys.find(key) is None:
        return Organization.objects.order_by("created_at").first()
    return None
