"""The statements of `calls` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class LiveJournalsRow(NamedTuple):
    run_id: UUID
    function_id: UUID | None
    flow_id: UUID
    created_at: datetime
    shape: str


def live_journals(
    *,
    org: UUID,
    flows: Iterable[UUID],
    after_at: datetime,
    after_id: UUID,
    page: int,
    cursor: database.Cursor | None = None,
) -> list[LiveJournalsRow]:
    """Runs of flows in Python that have not ended, oldest first."""
    parameters = {"org": org, "flows": list(flows), "after_at": after_at, "after_id": after_id, "page": page}
    return database.fetch("live_journals", parameters, LiveJournalsRow._make, cursor)


class LoadDiscoveredRow(NamedTuple):
    options: Json


def load_discovered(*, version: UUID, name: str, cursor: database.Cursor | None = None) -> list[LoadDiscoveredRow]:
    """The steps that a version in Python has asked for."""
    return database.fetch("load_discovered", {"version": version, "name": name}, LoadDiscoveredRow._make, cursor)


class LoadJournalRow(NamedTuple):
    id: UUID
    key: str
    type: str
    position: int
    status: str
    attempt: int
    output: Json
    error: Json
    ended_at: datetime | None


def load_journal(*, function: UUID, cursor: database.Cursor | None = None) -> list[LoadJournalRow]:
    """The steps that a function has asked for, in the order in which it did."""
    return database.fetch("load_journal", {"function": function}, LoadJournalRow._make, cursor)


class LockFunctionsRow(NamedTuple):
    id: UUID


def lock_functions(*, functions: Iterable[UUID], cursor: database.Cursor | None = None) -> list[LockFunctionsRow]:
    """Lock functions of which steps are about to end, in the order of their ids, in a statement before the one that
    records that."""
    return database.fetch("lock_functions", {"functions": list(functions)}, LockFunctionsRow._make, cursor)


class NoteDiscoveredRow(NamedTuple):
    options: Json


def note_discovered(
    *, version: UUID, name: str, options: str, cursor: database.Cursor | None = None
) -> list[NoteDiscoveredRow]:
    """A version in Python asks for a step of this name for the first time."""
    parameters = {"version": version, "name": name, "options": options}
    return database.fetch("note_discovered", parameters, NoteDiscoveredRow._make, cursor)
