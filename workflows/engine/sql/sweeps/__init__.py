"""The statements of `sweeps` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


def forget_stale_sweep_failures(*, stale_s: float, cursor: database.Cursor | None = None) -> None:
    """Failures of items that are gone (nobody has tried them for longer than the longest pause), of sweeps that
    overran a while ago, and what was given up a week ago."""
    database.fetch("forget_stale_sweep_failures", {"stale_s": stale_s}, tuple, cursor)


def forget_sweep_failures(
    *, sweep: str, kind: str, items: Iterable[str], cursor: database.Cursor | None = None
) -> None:
    """What a sweep could not do and has done now."""
    database.fetch("forget_sweep_failures", {"sweep": sweep, "kind": kind, "items": list(items)}, tuple, cursor)


def give_up_sweep_failures(*, sweep: str, items: Iterable[str], cursor: database.Cursor | None = None) -> None:
    """What a sweep gives up."""
    database.fetch("give_up_sweep_failures", {"sweep": sweep, "items": list(items)}, tuple, cursor)


class NoteSweepFailuresRow(NamedTuple):
    sweep: str
    kind: str
    item: str
    tries: int
    since: datetime
    try_again_at: datetime


def note_sweep_failures(
    *,
    sweep: str,
    kind: str,
    items: Iterable[str],
    orgs: Iterable[UUID | None],
    errors: Iterable[str],
    longest_s: float,
    cursor: database.Cursor | None = None,
) -> list[NoteSweepFailuresRow]:
    """Note what a sweep could not do."""
    parameters = {
        "sweep": sweep, "kind": kind, "items": list(items), "orgs": list(orgs), "errors": list(errors),
        "longest_s": longest_s
    }  # fmt: skip
    return database.fetch("note_sweep_failures", parameters, NoteSweepFailuresRow._make, cursor)


class SweepFailuresRow(NamedTuple):
    sweep: str
    kind: str
    item: str
    tries: int
    since: datetime
    try_again_at: datetime


def sweep_failures(cursor: database.Cursor | None = None) -> list[SweepFailuresRow]:
    """What sweeps could not do lately, and is tried again."""
    return database.fetch("sweep_failures", {}, SweepFailuresRow._make, cursor)
