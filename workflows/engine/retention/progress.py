"""How far deleting is: what a pass has deleted and left, kept in the one row of `RetentionState`."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping

from django.db import transaction

from workflows.engine.retention.walking import Piece
from workflows.models import RetentionState


def state() -> RetentionState:
    """The row; made where there is none."""
    return RetentionState.objects.get_or_create(id=1)[0]


class Progress:
    """What the pieces of a pass add up to."""

    def __init__(self) -> None:
        self.deleted: Counter[str] = Counter()
        self.by_subject: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.failures: list[str] = []
        self._saved: Counter[str] = Counter()

    def add(self, piece: Piece) -> None:
        self.deleted.update({table: rows for table, rows in piece.deleted.items() if rows})
        rows = sum(piece.deleted.values())
        if rows:
            self.by_subject[piece.subject] += rows
        self.held.update(piece.held)
        if piece.failed:
            self.failures.append(piece.failed)

    def save(self, *, dry: bool = False, **values: dt.datetime | None) -> None:
        """Write it as the leader's pass, with fields of the state: rows that are new since the last time are added to
        those of ever."""
        new = self.deleted - self._saved
        with transaction.atomic():
            state()
            row = RetentionState.objects.select_for_update().get(id=1)
            if dry:
                row.would_delete = dict(self.by_subject)
            else:
                row.deleted = _sum(row.deleted, new)
                row.last_pass = dict(self.deleted)
            row.held = dict(self.held)
            for name, value in values.items():
                setattr(row, name, value)
            row.save()
        if not dry:
            self._saved = Counter(self.deleted)

    def save_total(self) -> None:
        """Add the rows that are new since the last time to those of ever. The leader's numbers of its pass stay."""
        new = self.deleted - self._saved
        with transaction.atomic():
            state()
            row = RetentionState.objects.select_for_update().get(id=1)
            row.deleted = _sum(row.deleted, new)
            row.save(update_fields=["deleted"])
        self._saved = Counter(self.deleted)


def _sum(before: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(before) + Counter(new))
