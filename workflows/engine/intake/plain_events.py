"""Events that programs send: those of a group of requests share a statement, which checks their keys as well.

They are matched after its commit, in a later snapshot, by a thread of its own (`matcher`). A request whose key is not
in force, or with an event whose name has a schema, is left to its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from workflows import this_process
from workflows.edge.unavailable import is_database_away
from workflows.engine.events.matcher import Matcher
from workflows.engine.events.receive import NewEvent
from workflows.engine.intake.groups import Groups, Outcome
from workflows.engine.sql import intake as sql
from workflows.engine.state import sealed
from workflows.sealing.envelope import has_marker, seal_json

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The events of one request, all or none, with their data and users as JSON texts."""

    digest: str
    events: Sequence[NewEvent]
    datas: Sequence[str]
    users: Sequence[str]
    settle: Callable[[Outcome], None]
    """Called once it is known what becomes of it; a second call changes nothing."""

    @property
    def count(self) -> int:
        return len(self.events)

    @property
    def size(self) -> int:
        return sum(map(len, self.datas)) * 3 + 500 * len(self.events)

    def leave(self) -> None:
        self.settle(None)


def writer() -> Groups[Sent]:
    """This process's writer of events."""
    return this_process.own(_new_writer)


def _new_writer() -> Groups[Sent]:
    return Groups("intake-events", write)


def write(group: Sequence[Sent]) -> None:
    """Store the events of the requests, in halves where that fails; settle every request."""
    try:
        seal = _sealing(group)
        rows = sql.insert_events(
            digests=[each.digest for each in group],
            places=[place for place, each in enumerate(group, 1) for _ in each.events],
            ids=[event.id for each in group for event in each.events],
            names=[event.name for each in group for event in each.events],
            datas=[seal(data, each) for each in group for data in each.datas],
            users=[seal(user, each) for each in group for user in each.users],
            times=[event.ts for each in group for event in each.events],
            external_ids=[event.external_id for each in group for event in each.events],
        )
    except psycopg.Error as error:
        log.warning("events can't be stored together", requests=len(group), error=str(error))
        if is_database_away(error):
            for each in group:
                each.settle(error)
            return
        if len(group) == 1:
            group[0].leave()
            return
        middle = len(group) // 2
        write(group[:middle])
        write(group[middle:])
        return
    owners = {row.place: row.org_id for row in rows}
    stored: dict[UUID, list[UUID]] = {}
    for place, each in enumerate(group, 1):
        ids = [event.id for event in each.events]
        if place in owners:
            stored.setdefault(owners[place], []).extend(ids)
            each.settle(ids)
        else:
            each.leave()
    this_process.own(Matcher).submit(stored)


class Owners(dict[str, UUID]):
    """By digest of an event key: its organization, which stays the same. Filled where some organization encrypts."""


MOST_OWNERS = 10_000


def _sealing(group: Sequence[Sent]) -> Callable[[str, Sent], str]:
    """How a payload of a request is stored: what its organization wants is not known before the statement."""
    wanting: set[str] = set()
    if not sealed.is_off_for_all():
        owners = this_process.own(Owners)
        digests = {each.digest for each in group}
        if len(owners) + len(digests) > MOST_OWNERS:
            owners.clear()  # before it is looked which are known: those of this group have to be
        if unknown := digests - owners.keys():
            owners.update((row.digest, row.org_id) for row in sql.key_owners(digests=unknown))
        wanting = {each.digest for each in group if each.digest in owners and sealed.is_on(owners[each.digest])}

    def stored(text: str, request: Sent) -> str:
        return seal_json(text) if request.digest in wanting or has_marker(text) else text

    return stored
