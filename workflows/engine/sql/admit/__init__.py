"""The statements of `admit` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class WaitingAncestorsRow(NamedTuple):
    id: UUID
    flows: list[UUID]


def waiting_ancestors(*, ids: Iterable[UUID], cursor: database.Cursor | None = None) -> list[WaitingAncestorsRow]:
    """Of runs that are waited for by those that started them."""
    return database.fetch("waiting_ancestors", {"ids": list(ids)}, WaitingAncestorsRow._make, cursor)
