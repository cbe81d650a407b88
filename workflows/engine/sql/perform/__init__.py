"""The statements of `perform` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class LoadContextsRow(NamedTuple):
    id: UUID
    input: Json
    size: int
    event_id: UUID | None
    event_name: str
    trigger: str
    user_id: str
    created_at: datetime
    priority: int
    version_id: UUID
    error: Json
    cancel_reason: str
    flow: str
    org_id: UUID
    org_slug: str
    event_user: Json
    event_ts: datetime | None
    outcomes: Json


def load_contexts(
    *, run_ids: Iterable[UUID], keys: Iterable[str], known: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[LoadContextsRow]:
    """What expressions may read of some runs."""
    parameters = {"run_ids": list(run_ids), "keys": list(keys), "known": list(known)}
    return database.fetch("load_contexts", parameters, LoadContextsRow._make, cursor)


class LoadInnerRow(NamedTuple):
    id: UUID
    run_id: UUID
    version_id: UUID
    path: str
    item: Json
    position: int
    outcomes: Json


def load_inner(
    *, ids: Iterable[UUID], keys: Iterable[str], cursor: database.Cursor | None = None
) -> list[LoadInnerRow]:
    """What expressions of steps in containers read beside what the run has."""
    return database.fetch("load_inner", {"ids": list(ids), "keys": list(keys)}, LoadInnerRow._make, cursor)


class LoadSecretsRow(NamedTuple):
    name: str
    ciphertext: bytes


def load_secrets(*, org: UUID, cursor: database.Cursor | None = None) -> list[LoadSecretsRow]:
    """The secrets of an organization, encrypted."""
    return database.fetch("load_secrets", {"org": org}, LoadSecretsRow._make, cursor)


class LoadVersionsRow(NamedTuple):
    id: UUID
    flow_id: UUID
    number: int
    definition: Json
    org_id: UUID


def load_versions(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[LoadVersionsRow]:
    """The definitions of published versions, and whose they are."""
    return database.fetch("load_versions", {"ids": list(ids)}, LoadVersionsRow._make, cursor)


class SealingOrganizationsRow(NamedTuple):
    id: UUID


def sealing_organizations(cursor: database.Cursor | None = None) -> list[SealingOrganizationsRow]:
    """The organizations whose payloads are stored encrypted."""
    return database.fetch("sealing_organizations", {}, SealingOrganizationsRow._make, cursor)
