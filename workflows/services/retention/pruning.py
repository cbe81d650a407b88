"""Deleting what has expired because a person asks for it, piece by piece at a pace; what it would delete."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.utils import timezone

from workflows.duration import format_ms, parse_ms
from workflows.engine.retention.pacing import MOST_ROWS_PER_S, Pace, rows_per_s
from workflows.engine.retention.progress import Progress
from workflows.engine.retention.subjects import SUBJECTS, subject_of
from workflows.engine.retention.walking import Piece, Walk, Wanted
from workflows.errors import InvalidInput
from workflows.models import Organization
from workflows.models.retention import MIN_DAYS
from workflows.services.retention import exporting

SHORTEST = dt.timedelta(days=MIN_DAYS)
SAVE_EVERY_S = 2.0
LONGEST_SLEEP_S = 0.5
OF_ORGANIZATIONS = {name for name, subject in SUBJECTS.items() if subject.by_organization} | {"versions"}
"""Subjects whose rows are of an organization each."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to delete. `older_than`: a duration instead of what the rules say. `per_s`: rows a second."""

    organizations: Sequence[Organization] | None = None
    subjects: Sequence[str] = ()
    older_than: str | None = None
    per_s: int | None = None
    export: Path | None = None
    clear: bool = False
    """Payloads that are stored encrypted are exported in clear."""
    dry_run: bool = False

    def wanted(self, export: exporting.Exporter | None) -> Wanted:
        """Raises InvalidInput for an unknown subject, one that organizations can't be chosen for, or an age below an
        hour."""
        if self.clear and self.export is None:
            raise InvalidInput("clear: it is about what is exported; give --export too.")
        for name in self.subjects:
            if name == "letters":
                raise InvalidInput("letters are deleted with their runs: name completed, failed or cancelled.")
            if self.organizations is not None and name not in OF_ORGANIZATIONS and name in SUBJECTS:
                raise InvalidInput(f"{name} is not kept by organization: leave out --org to prune it for all of them.")
        return Wanted(
            org_ids=None if self.organizations is None else [each.id for each in self.organizations],
            subjects=[subject_of(name).name for name in self.subjects] or None,
            older_than=_age(self.older_than),
            export=export.write if export is not None else None,
            dry=self.dry_run,
        )

    def pace(self) -> Pace:
        """Raises InvalidInput for a pace that is out of range."""
        per_s = rows_per_s() if self.per_s is None else self.per_s
        if not 1 <= per_s <= MOST_ROWS_PER_S:
            raise InvalidInput(f"pace: {per_s} is out of range; use 1 … {MOST_ROWS_PER_S} rows a second.")
        return Pace(per_s)


def _age(text: str | None) -> dt.timedelta | None:
    if text is None:
        return None
    try:
        age = dt.timedelta(milliseconds=parse_ms(text))
    except ValueError as error:
        raise InvalidInput(f"older-than: {error}") from None
    if age < SHORTEST:
        raise InvalidInput(f"older-than: {format_ms(parse_ms(text))} is too short; an hour is the least.")
    return age


def prune(
    request: Request,
    *,
    tell: Callable[[Progress], None] = lambda _: None,
    is_to_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Delete what has expired and nothing refers to; in a dry run only count it. Returns what was done.

    It may be ended at any moment, and done again: what was begun is ended first. `tell` is called after each piece, and
    no other is begun once `is_to_stop`: an exception would be taken for the fault of the run that it hits.
    Raises InvalidInput before anything is deleted, and OSError where an export can't be written: what is not safely
    exported is not deleted.
    """
    progress, pace = Progress(), request.pace()
    request.wanted(None)
    with _exporter(request) as exporter:
        wanted = request.wanted(exporter)
        saved_at = time.monotonic()
        try:
            for piece in _at_pace(Walk(wanted, now=timezone.now()).pieces(), pace, wanted, is_to_stop):
                progress.add(piece)
                tell(progress)
                if not wanted.dry and time.monotonic() - saved_at > SAVE_EVERY_S:
                    saved_at = time.monotonic()
                    progress.save_total()
        finally:
            if not wanted.dry:
                progress.save_total()
    return progress


def _at_pace(pieces: Iterator[Piece], pace: Pace, wanted: Wanted, is_to_stop: Callable[[], bool]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if not wanted.dry:
            pace.spend(piece.cost)
            while (pause_s := pace.seconds_until()) > 0 and not is_to_stop():
                time.sleep(min(pause_s, LONGEST_SLEEP_S))
        if is_to_stop():
            return


@contextlib.contextmanager
def _exporter(request: Request) -> Iterator[exporting.Exporter | None]:
    if request.export is None or request.dry_run:
        yield None
        return
    with exporting.open_in(request.export, clear=request.clear) as exporter:
        yield exporter


ALL_SUBJECTS = tuple(SUBJECTS)
