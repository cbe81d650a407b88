"""The statements of `trigger` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


def forget_keys(
    *, org: UUID, flow: UUID, keys: Iterable[str], runs: Iterable[UUID], cursor: database.Cursor | None = None
) -> None:
    """Idempotency keys of runs that are not made."""
    database.fetch("forget_keys", {"org": org, "flow": flow, "keys": list(keys), "runs": list(runs)}, tuple, cursor)


class LockParentRow(NamedTuple):
    cancelled: bool


def lock_parent(*, org: UUID, id: UUID, cursor: database.Cursor | None = None) -> list[LockParentRow]:
    """The run that starts another one, held so that its cancel waits for that."""
    return database.fetch("lock_parent", {"org": org, "id": id}, LockParentRow._make, cursor)
