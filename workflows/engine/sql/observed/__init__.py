"""The statements of `observed` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from workflows.engine.state import database


def count_dropped(*, dropped: int, cursor: database.Cursor | None = None) -> None:
    """So many observations were dropped."""
    database.fetch("count_dropped", {"dropped": dropped}, tuple, cursor)


def forget_drops(*, keep_s: float, cursor: database.Cursor | None = None) -> None:
    """Delete counts of dropped observations that are older than `keep_s`."""
    database.fetch("forget_drops", {"keep_s": keep_s}, tuple, cursor)


class ForgetObservedRow(NamedTuple):
    id: str


def forget_observed(
    *, keep_s: float, most: int, batch: int, cursor: database.Cursor | None = None
) -> list[ForgetObservedRow]:
    """Delete a batch of what was observed."""
    parameters = {"keep_s": keep_s, "most": most, "batch": batch}
    return database.fetch("forget_observed", parameters, ForgetObservedRow._make, cursor)


class MarkLostRow(NamedTuple):
    id: str


def mark_lost(*, ids: Iterable[str], cursor: database.Cursor | None = None) -> list[MarkLostRow]:
    """Tasks that were sent, and that are nowhere any more."""
    return database.fetch("mark_lost", {"ids": list(ids)}, MarkLostRow._make, cursor)


class NeverStartedRow(NamedTuple):
    id: str
    queue: str


def never_started(*, after_s: float, batch: int, cursor: database.Cursor | None = None) -> list[NeverStartedRow]:
    """Tasks that were sent a while ago, and of which no worker has told, while a task that was sent later to the
    same queue has been started."""
    return database.fetch("never_started", {"after_s": after_s, "batch": batch}, NeverStartedRow._make, cursor)


class ObservingWorkersRow(NamedTuple):
    hostname: str


def observing_workers(*, within_s: float, cursor: database.Cursor | None = None) -> list[ObservingWorkersRow]:
    """The workers that have told of tasks within the last `within_s`."""
    return database.fetch("observing_workers", {"within_s": within_s}, ObservingWorkersRow._make, cursor)


def store_observations(*, seen: str, org: str, cursor: database.Cursor | None = None) -> None:
    """Add what was seen of Celery tasks to their rows."""
    database.fetch("store_observations", {"seen": seen, "org": org}, tuple, cursor)
