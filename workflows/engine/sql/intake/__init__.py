"""The statements of `intake` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class InsertEventsRow(NamedTuple):
    place: int
    org_id: UUID


def insert_events(
    *,
    digests: Iterable[str],
    places: Iterable[int],
    ids: Iterable[UUID],
    names: Iterable[str],
    datas: Iterable[str],
    users: Iterable[str],
    times: Iterable[datetime | None],
    external_ids: Iterable[str],
    cursor: database.Cursor | None = None,
) -> list[InsertEventsRow]:
    """Insert the events of many requests."""
    parameters = {
        "digests": list(digests), "places": list(places), "ids": list(ids), "names": list(names), "datas": list(datas),
        "users": list(users), "times": list(times), "external_ids": list(external_ids)
    }  # fmt: skip
    return database.fetch("insert_events", parameters, InsertEventsRow._make, cursor)


class KeyOwnersRow(NamedTuple):
    digest: str
    org_id: UUID


def key_owners(*, digests: Iterable[str], cursor: database.Cursor | None = None) -> list[KeyOwnersRow]:
    """The organizations of event keys, in force or not."""
    return database.fetch("key_owners", {"digests": list(digests)}, KeyOwnersRow._make, cursor)


class RunTargetsRow(NamedTuple):
    digest: str
    slug: str
    version_id: UUID


def run_targets(
    *, digests: Iterable[str], slugs: Iterable[str], cursor: database.Cursor | None = None
) -> list[RunTargetsRow]:
    """What API keys in force that may start flows start without a look at a quota."""
    return database.fetch("run_targets", {"digests": list(digests), "slugs": list(slugs)}, RunTargetsRow._make, cursor)


class StoredRunsRow(NamedTuple):
    id: UUID


def stored_runs(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[StoredRunsRow]:
    """Which of these runs are stored."""
    return database.fetch("stored_runs", {"ids": list(ids)}, StoredRunsRow._make, cursor)
