"""The leader's job: it takes pieces of a pass at a stated pace, slower while steps wait for workers.

On a database that was in use before there was retention, a week of dry runs comes first: each counts what would be
deleted and announces it, in the log, by `doctor` and on the pages.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Mapping

import structlog
from django.utils import timezone

from throttling.environment import switch, whole_number
from workflows import this_process
from workflows.engine.retention.progress import Progress, state
from workflows.engine.retention.subjects import SUBJECTS, configured_days
from workflows.engine.retention.walking import Piece, Walk, Wanted
from workflows.engine.sql import upkeep as sql

log = structlog.get_logger(__name__)
EVERY_S = 0.25
PASS_EVERY = dt.timedelta(minutes=10)
PAUSE_SHARE = 9
LONGEST_PAUSE = dt.timedelta(hours=6)
"""After a pass that took long, since it looked at much that is kept, the pause is nine times as long, up to this."""
VERSIONS_EVERY_S = 86_400.0
"""Old versions are looked for once a day: that reads all runs of a flow that has any."""
DRY_PASS_EVERY = dt.timedelta(days=1)
LOOK_EVERY_S = 30.0
"""While nothing is due, the state is read so often."""
TURN_S = 0.2
SAVE_EVERY_S = 5.0
ROWS_PER_S = 1_000
MOST_ROWS_PER_S = 100_000
BACKLOG = 200
"""With so many steps waiting for a worker, a tenth of the pace is taken: never nothing, or a queue that is always long
would keep everything for ever."""
SLOWER = 0.1
BACKLOG_EVERY_S = 1.0


def is_on(source: Mapping[str, str] | None = None) -> bool:
    """Whether the leader deletes by itself. Raises EnvironmentValueError."""
    return switch(os.environ if source is None else source, "HEADRACE_RETENTION", default=True)


def rows_per_s(source: Mapping[str, str] | None = None) -> int:
    """The pace that the environment sets. Raises EnvironmentValueError."""
    given = os.environ if source is None else source
    return whole_number(given, "HEADRACE_RETENTION_ROWS_PER_S", ROWS_PER_S, low=1, high=MOST_ROWS_PER_S)


def check_environment() -> None:
    """Raises EnvironmentValueError for what the environment says of retention and can't be used."""
    is_on()
    rows_per_s()
    for subject in SUBJECTS.values():
        configured_days(subject)


class Pace:
    """How many rows may be deleted now: so many a second, nothing saved up for longer than a second."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._at = time.monotonic()
        self._allowed = 0.0
        self._looked_at = float("-inf")
        self._is_backlogged = False

    def allowed(self) -> float:
        """Rows that may be deleted now; below nothing after a piece that was larger than that."""
        now = time.monotonic()
        share = SLOWER if self._backlogged(now) else 1.0
        self._allowed = min(self._allowed + (now - self._at) * self.per_s * share, self.per_s)
        self._at = now
        return self._allowed

    def spend(self, rows: int) -> None:
        self._allowed -= rows

    def seconds_until(self) -> float:
        """Until something is allowed again."""
        allowed = self.allowed()
        return 0.0 if allowed > 0 else -allowed / self.per_s / (SLOWER if self._is_backlogged else 1.0)

    def _backlogged(self, now: float) -> bool:
        if now - self._looked_at > BACKLOG_EVERY_S:
            self._looked_at = now
            self._is_backlogged = sql.backlog(at_least=BACKLOG)[0].is_backlogged
        return self._is_backlogged


class Pruner:
    """The pass that this process is at, if any."""

    def __init__(self) -> None:
        self._pieces: Iterator[Piece] | None = None
        self._is_dry = False
        self._progress = Progress()
        self._pace = Pace(rows_per_s())
        self._look_at = float("-inf")
        self._saved_at = 0.0
        self._began_at = timezone.now()
        self._versions_at = float("-inf")

    def turn(self) -> None:
        """Take pieces for a moment, as many as the pace allows. Begins a pass where one is due."""
        until = time.monotonic() + TURN_S
        if self._pieces is None and not self._begin():
            return
        while self._pace.allowed() > 0 and time.monotonic() < until:
            try:
                piece = next(self._pieces, None) if self._pieces is not None else None
            except BaseException:  # the generator is over, and the pass is not: the next turn begins another
                self._pieces = None
                self._look_at = time.monotonic() + LOOK_EVERY_S
                raise
            if piece is None:
                self._end()
                return
            self._pace.spend(piece.cost)
            self._progress.add(piece)
        if not self._is_dry and time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self._saved_at = time.monotonic()
            self._progress.save()

    def _begin(self) -> bool:
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY_S
        if not is_on():
            return False
        now, row = timezone.now(), state()
        if row.next_at is not None and row.next_at > now:
            return False
        self._is_dry = row.dry_until is not None and row.dry_until > now
        self._progress = Progress()
        looks_at_versions = time.monotonic() - self._versions_at > VERSIONS_EVERY_S
        leave_out = () if looks_at_versions else ("versions",)
        self._versions_at = time.monotonic() if looks_at_versions else self._versions_at
        self._began_at = now
        self._pieces = Walk(Wanted(dry=self._is_dry, leave_out=leave_out), now=now).pieces()
        self._saved_at = time.monotonic()
        if not self._is_dry:
            self._progress.save(began_at=now, ended_at=None)
        return True

    def _end(self) -> None:
        self._pieces = None
        now = timezone.now()
        if not self._is_dry:
            pause = min(max(PASS_EVERY, (now - self._began_at) * PAUSE_SHARE), LONGEST_PAUSE)
            self._progress.save(ended_at=now, next_at=now + pause)
            rows = sum(self._progress.deleted.values())
            if rows:
                log.info("what had expired was deleted", rows=rows, kept=sum(self._progress.held.values()))
            return
        dry_until = state().dry_until or now
        self._progress.save(dry=True, announced_at=now, next_at=min(now + DRY_PASS_EVERY, dry_until))
        log.warning(
            "nothing is deleted yet: from then on what has expired is",
            since=dry_until.isoformat(), would_delete=dict(self._progress.by_subject),
            change="RetentionRule in the admin, /api/organization/retention, HEADRACE_RETENTION_…_DAYS",
        )  # fmt: skip


def prune_a_little() -> None:
    """The job: take a turn of this process's pass."""
    this_process.own(Pruner).turn()
