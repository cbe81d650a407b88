"""System events: `headrace/run.completed`, `run.failed`, `run.cancelled`, `dead_letter.created`, `flow.published`.

The leader emits them from stored rows, and only names that something listens to (a trigger, a wait or a cancel rule):
recording a step costs nothing more, and a leader that dies loses nothing. The id of an event is made of what it
reports, so that none is emitted twice. A run that a system event has started emits none: no flow can start itself for
ever.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from workflows.edge.unavailable import may_pass
from workflows.engine.events import receive
from workflows.engine.events.names import patterns
from workflows.engine.events.receive import NewEvent
from workflows.engine.maintenance import sweeps
from workflows.models import CancelRule, Event, FlowVersion, Run, SystemFeed, Trigger, Wait
from workflows.models.event import SYSTEM, event_id
from workflows.models.run import first_id

log = structlog.get_logger(__name__)
NAMESPACE = uuid.UUID("0a8d3f52-7a2c-4a53-9d0b-b6a3cf9b5a77")
OVERLAP = dt.timedelta(seconds=10)
"""What is stored with an earlier time may be committed so much later."""
PAGE = 500
FEEDS = "feeds of system events"
MAX_OUTPUT_CHARACTERS = 64 * 1024
BY_SYSTEM = Q(event_name__startswith=f"{SYSTEM}run.") | Q(event_name__startswith=f"{SYSTEM}dead_letter.")
"""Runs that a system event has started."""
RUN_NAMES = {status: f"{SYSTEM}run.{status}" for status in ("completed", "failed", "cancelled")}


@dataclass(frozen=True, kw_only=True)
class Emission:
    """Something that happened: when, under which name, and what makes it this one and no other."""

    at: dt.datetime
    name: str
    identity: str
    data: dict[str, Any]

    @property
    def id(self) -> UUID:
        return event_id(first_id(self.at.timestamp()), self.former_id)

    @property
    def former_id(self) -> UUID:
        """The id that releases before this one gave it, which may run beside this one during an upgrade."""
        return uuid.uuid5(NAMESPACE, f"{self.name} {self.identity}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of system events: its names, and what happened in an organization since a time, in its order."""

    names: frozenset[str]
    since: Callable[[UUID, dt.datetime, frozenset[str], int], Iterable[Emission]]


SOURCES: dict[str, Source] = {}


def register(sources: Mapping[str, Source]) -> None:
    """Add the sources of an app, by name. Raises ValueError where another has a name already."""
    for name, source in sources.items():
        if SOURCES.setdefault(name, source) is not source:
            raise ValueError(f"the system events {name!r} are registered twice")


def emit() -> bool:
    """Send what has happened where somebody listens. Returns whether there may be more."""
    listeners = _listeners(frozenset().union(*(source.names for source in SOURCES.values())))
    feeds = [
        _Feed(org_id=org_id, source=name, heard=heard & source.names)
        for org_id, heard in listeners.items()
        for name, source in SOURCES.items()
        if heard & source.names
    ]
    random.shuffle(feeds)  # where the time of a turn does not suffice for all, it is not always the same ones that wait
    full: list[_Feed] = []

    def tell_one(some: Sequence[_Feed]) -> None:
        if _emit(some[0]):
            full.extend(some)

    now = timezone.now()
    put_off = {item for item, entry in sweeps.ledger().of(FEEDS).items() if entry.try_again_at > now}
    sweeps.isolated(
        sweeps.Items(name=FEEDS, work=tell_one, key=_Feed.key, org=lambda feed: feed.org_id),
        [feed for feed in feeds if feed.key() not in put_off],
    )
    return bool(full)


@dataclass(frozen=True, kw_only=True)
class _Feed:
    """The system events of a kind that somebody in an organization listens to."""

    org_id: UUID
    source: str
    heard: frozenset[str]

    def key(self) -> str:
        return f"{self.source} {self.org_id}"


def _listeners(names: frozenset[str]) -> dict[UUID, frozenset[str]]:
    """By organization: the names that somebody listens to."""
    by_pattern: dict[str, set[str]] = {}
    for name in names:
        for pattern in patterns(name):
            by_pattern.setdefault(pattern, set()).add(name)
    wanted = list(by_pattern)
    found: dict[UUID, set[str]] = {}
    triggers = Trigger.objects.filter(
        kind=Trigger.Kind.EVENT, event_name__in=wanted, enabled=True, flow__archived_at=None
    ).order_by()
    rules = CancelRule.objects.filter(event_name__in=wanted).order_by()
    waits = Wait.objects.filter(kind=Wait.Kind.EVENT, taken_at=None, event_name__in=wanted).order_by()
    rows = triggers.values_list("organization_id", "event_name").union(
        rules.values_list("organization_id", "event_name"), waits.values_list("org_id", "event_name")
    )
    for org_id, pattern in rows:
        found.setdefault(org_id, set()).update(by_pattern[pattern])
    return {org_id: frozenset(heard) for org_id, heard in found.items()}


def _emit(wanted: _Feed) -> bool:
    """Tell what is new of a feed. Returns whether there may be more."""
    org_id, name = wanted.org_id, wanted.source
    now = timezone.now()
    feed, _ = SystemFeed.objects.get_or_create(org_id=org_id, source=name, defaults={"emitted_until": now - OVERLAP})
    with transaction.atomic():
        locked = SystemFeed.objects.select_for_update(skip_locked=True).filter(org_id=org_id, source=name).first()
        if locked is None:
            return False  # another leader does it
        feed = locked
        page = list(SOURCES[name].since(org_id, feed.emitted_until - OVERLAP, wanted.heard, PAGE))
        ids = [id_ for emission in page for id_ in (emission.id, emission.former_id)]
        known = set(Event.objects.filter(id__in=ids).values_list("id", flat=True))
        new = [
            NewEvent(id=emission.id, name=emission.name, data=emission.data, ts=emission.at)
            for emission in page
            if known.isdisjoint({emission.id, emission.former_id})
        ]
        _receive(org_id, new)
        full = len(page) == PAGE
        emitted_until = page[-1].at + OVERLAP if full else now
        if emitted_until > feed.emitted_until or not full:
            SystemFeed.objects.filter(org_id=org_id, source=name).update(emitted_until=emitted_until)
    return full


def _receive(org_id: UUID, new: Sequence[NewEvent]) -> None:
    """Store the events; one that can't be stored is left out, since its feed would never get past it."""
    if not new:
        return
    try:
        with transaction.atomic():
            receive.receive(org_id, new)
    except BaseException as error:
        if may_pass(error):
            raise
        if len(new) == 1:
            log.error("a system event can't be told", name=new[0].name, event_id=str(new[0].id), error=str(error))
            return
        middle = len(new) // 2
        _receive(org_id, new[:middle])
        _receive(org_id, new[middle:])


# --- runs -----------------------------------------------------------------------------------------------------------


def _ended_runs(org_id: UUID, since: dt.datetime, heard: frozenset[str], limit: int) -> Iterable[Emission]:
    statuses = [status for status, name in RUN_NAMES.items() if name in heard]
    rows = Run.objects.filter(status__in=statuses, org_id=org_id, ended_at__gte=since).exclude(BY_SYSTEM)
    for run in rows.select_related("flow", "version").order_by("ended_at")[:limit]:
        assert run.ended_at is not None
        yield Emission(at=run.ended_at, name=RUN_NAMES[run.status], identity=str(run.id), data=run_facts(run))


def run_facts(run: Run) -> dict[str, Any]:
    """What an event says of a run. A large output is left out: it can be read by the run's id."""
    output = run.output if len(str(run.output)) <= MAX_OUTPUT_CHARACTERS else None
    return {
        "runId": str(run.id),
        "flow": run.flow.slug,
        "workflow": run.flow.slug,
        "version": run.version.number,
        "status": run.status,
        "trigger": run.trigger,
        "event": run.event_name or None,
        "eventId": str(run.event_id) if run.event_id else None,
        "userId": run.user_id,
        "tags": list(run.tags),
        "error": run.error,
        "output": output,
        "createdAt": run.created_at.isoformat(),
        "startedAt": run.started_at.isoformat() if run.started_at else None,
        "endedAt": run.ended_at.isoformat() if run.ended_at else None,
    }


# --- flows ----------------------------------------------------------------------------------------------------------


def _published(org_id: UUID, since: dt.datetime, heard: frozenset[str], limit: int) -> Iterable[Emission]:
    rows = FlowVersion.objects.filter(flow__organization_id=org_id, published_at__gte=since).select_related("flow")
    for version in rows.order_by("published_at")[:limit]:
        assert version.published_at is not None
        data = {
            "flow": version.flow.slug,
            "workflow": version.flow.slug,
            "version": version.number,
            "steps": len(version.definition.get("steps", [])),
        }
        yield Emission(at=version.published_at, name=FLOW_PUBLISHED, identity=str(version.id), data=data)


FLOW_PUBLISHED = f"{SYSTEM}flow.published"
OF_WORKFLOWS = {
    "runs": Source(names=frozenset(RUN_NAMES.values()), since=_ended_runs),
    "flows": Source(names=frozenset({FLOW_PUBLISHED}), since=_published),
}
"""The system events of runs and flows."""
