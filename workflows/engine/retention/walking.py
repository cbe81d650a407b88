"""One pass over everything that has expired, as a generator of small pieces of work: the job of the leader and
`manage.py prune` take the next piece when the pace allows it, and may stop between any two."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from throttling.errors import EnvironmentValueError
from workflows.definitions.compiled import NIL_UUID
from workflows.duration import parse_ms
from workflows.edge.unavailable import is_database_away
from workflows.engine.maintenance import sweeps
from workflows.engine.retention import ages, history, rules
from workflows.engine.retention.rules import Kept
from workflows.engine.retention.subjects import RUN_STATUSES
from workflows.engine.sql import retention as sql
from workflows.engine.sql import upkeep as upkeep_sql
from workflows.models import (
    Attempt,
    DiscoveredStep,
    Flow,
    FlowVersion,
    Organization,
    Run,
    Step,
    StepRun,
    TriggerOutcome,
)
from workflows.models.run import first_id

T = TypeVar("T")
NAME = "retention"
"""Of the sweep whose items are the runs that can't be deleted."""
PAGE = 100
REST = "rest"
"""What is left of deleted runs."""
LOG_LINES = "log lines of attempts"
ROWS = 500
"""A piece of work deletes at most so many rows."""
BUDGET_S = 60.0
"""Seconds that a page of runs may take, its export included."""
OF_NO_TIME = dt.timedelta(days=1)
"""Ids of events from so long after now on are of no time: those that releases of before made of what they report."""
LAST_ID = UUID(int=(1 << 128) - 1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a pass is to delete. `older_than`: instead of what the rules say. `dry`: it only counts. `leave_out`: the
    subjects that are not looked at."""

    org_ids: Collection[UUID] | None = None
    subjects: Collection[str] | None = None
    older_than: dt.timedelta | None = None
    export: history.Export | None = None
    dry: bool = False
    leave_out: Collection[str] = ()

    def has(self, subject: str) -> bool:
        return subject not in self.leave_out and (self.subjects is None or subject in self.subjects)


@dataclass(kw_only=True)
class Piece:
    """What a piece of work did (in a dry run: would do): rows by table, and by reason the runs and events it left."""

    subject: str
    deleted: dict[str, int] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    examined: int = 0
    failed: str = ""
    """The part of the pass that was left, since it raised."""

    @property
    def cost(self) -> int:
        """Rows, for the pace; one that was only looked at costs a tenth."""
        return sum(self.deleted.values()) + self.examined // 10 + 1


class Walk:
    """A pass with its rules and its time."""

    def __init__(self, wanted: Wanted, *, now: dt.datetime) -> None:
        self.wanted = wanted
        self.now = now
        self.rules = rules.Rules()
        self._needs: dict[UUID, tuple[float, upkeep_sql.EventNeedsRow]] = {}
        """Of the organization that the pass is at: what its waits look for, and when that was asked."""

    def pieces(self) -> Iterator[Piece]:
        """The work, piece by piece: what is left of an earlier pass, runs, events, and what has an age alone."""
        yield from self._isolated(REST, self._remains())
        orgs = Organization.objects.order_by("id").values_list("id", flat=True)
        chosen = orgs if self.wanted.org_ids is None else orgs.filter(id__in=list(self.wanted.org_ids))
        for org_id in list(chosen):
            yield Piece(subject="organizations")  # a pass may stop between any two, though it has found nothing
            for status in RUN_STATUSES:
                yield from self._isolated(status, self._runs(org_id, status), org_id)
            yield from self._isolated("events", self._events(org_id), org_id)
            yield from self._isolated("logs", self._logs(org_id), org_id)
            yield from self._isolated("kept logs", self._kept_logs(org_id), org_id)
            yield from self._isolated("outcomes", self._outcomes(org_id), org_id)
        if self.wanted.org_ids is None:
            for table in ages.all_tables():
                yield from self._isolated(table.name, self._aged(table))
        yield from self._isolated("versions", self._versions())

    def _isolated(self, part: str, pieces: Iterator[Piece], org_id: UUID | None = None) -> Iterator[Piece]:
        """The pieces of a part. What it raises is noted for `doctor`, and the other parts have their turn.

        Raises only where the database is away, an export can't be written, or the environment can't be read.
        """
        sweep, item = _sweep(part), str(org_id) if org_id else sweeps.THE_WHOLE
        while True:
            try:
                piece = next(pieces, None)
            except (OSError, EnvironmentValueError):
                raise
            except Exception as error:
                if is_database_away(error):
                    raise
                sweeps.ledger().note(sweep, [sweeps.Failure(item, org_id, error)])
                yield Piece(subject=part, failed=part)
                return
            if piece is None:
                sweeps.ledger().forget(sweep, [item])
                return
            yield piece

    def cutoff(self, subject: str, org_id: UUID | None = None) -> dt.datetime | None:
        """What is older may go; None: nothing of it."""
        if not self.wanted.has(subject):
            return None
        if self.wanted.older_than is not None:
            return self.now - self.wanted.older_than
        return self.kept(subject, org_id).cutoff(self.now)

    def kept(self, subject: str, org_id: UUID | None = None) -> Kept:
        return self.rules.kept(subject, org_id)

    def _remains(self) -> Iterator[Piece]:
        """A run whose rest can't be deleted keeps no other: it is noted and put off."""
        while not self.wanted.dry:
            late = sweeps.ledger().put_off(_sweep(REST))
            rows = sql.pruned_runs(runs=None, put_off=late, batch=history.RUNS_AT_ONCE)
            org_of = {row.run_id: row.org_id for row in rows}
            done = _one_by_one(REST, org_of, partial(history.delete_remains, budget=ROWS), org_of.get)
            deleted = sum((Counter(each) for each in done), Counter[str]())
            if not deleted:  # nothing is left, or only what can't be deleted, or what others are at
                return
            yield Piece(subject=REST, deleted=dict(deleted))

    def _runs(self, org_id: UUID, status: str) -> Iterator[Piece]:
        after_at, after_id = EPOCH, NIL_UUID
        while before := self.cutoff(status, org_id):
            page = sql.expired_runs(
                org=org_id, status=status, before=before, after_at=after_at, after_id=after_id, batch=PAGE,
                put_off=sweeps.ledger().put_off(NAME),
            )  # fmt: skip
            if not page:
                return
            after_at, after_id = page[-1].ended_at, page[-1].id
            ids = [row.id for row in page]
            outcome = self._count_runs(ids) if self.wanted.dry else self._delete_runs(org_id, ids, before)
            yield Piece(
                subject=status, deleted={"headrace_workflows_run": len(outcome.deleted)}, held=outcome.held,
                examined=len(ids),
            )  # fmt: skip
            if outcome.deleted:
                yield from self._isolated(REST, self._remains())

    def _count_runs(self, ids: list[UUID]) -> history.Outcome:
        with transaction.atomic():  # letters are locked for a moment
            held = history.held_runs(ids)
        return history.Outcome(deleted=[id_ for id_ in ids if id_ not in held], held=Counter(held.values()))

    def _delete_runs(self, org_id: UUID, ids: list[UUID], before: dt.datetime) -> history.Outcome:
        """A run that can't be deleted keeps no other: it is noted, put off, and told by `doctor`."""
        whole, unwritable = history.Outcome(), list[OSError]()

        def delete(some: Sequence[UUID]) -> None:
            if unwritable:
                return
            try:
                outcome = history.delete_runs(some, before=before, export=self.wanted.export)
            except OSError as error:  # of the export, and no run is at fault: the pass ends
                unwritable.append(error)
                return
            whole.deleted += outcome.deleted
            whole.held.update(outcome.held)

        how = sweeps.Items[UUID](name=NAME, work=delete, org=lambda _: org_id, group=PAGE, budget_s=BUDGET_S)
        sweeps.isolated(how, ids)
        if unwritable:
            raise unwritable[0]
        return whole

    def _events(self, org_id: UUID) -> Iterator[Piece]:
        of_no_time = first_id((self.now + OF_NO_TIME).timestamp())
        yield from self._events_between(org_id, NIL_UUID, lambda before: first_id(before.timestamp()))
        yield from self._events_between(org_id, of_no_time, lambda _: LAST_ID)

    def _events_between(self, org_id: UUID, after: UUID, last_of: Callable[[dt.datetime], UUID]) -> Iterator[Piece]:
        """Those whose ids lie between two: of old ones that are in the order of time, or of those that are of none."""
        while before := self.cutoff("events", org_id):
            last = last_of(before)
            probe = partial(sql.expired_events, org=org_id, before=last, after=after, received_before=before, batch=1)
            if not self._knows_needs_of(org_id) and not probe():
                return
            needed_from = self._needed_events_from(org_id, before)
            last = last_of(needed_from)  # no id that is in the order of time is of later than its receipt
            page = sql.expired_events(org=org_id, before=last, after=after, received_before=needed_from, batch=PAGE)
            if not page:
                return
            ids = [row.id for row in page]
            after = ids[-1]
            outcome = self._count_events(ids) if self.wanted.dry else self._delete_events(org_id, ids)
            yield Piece(
                subject="events", deleted={"headrace_workflows_event": len(outcome.deleted)}, held=outcome.held,
                examined=len(ids),
            )  # fmt: skip

    def _count_events(self, ids: list[UUID]) -> history.Outcome:
        held = {row.id: row.reason for row in sql.held_events(ids=ids)}
        return history.Outcome(deleted=[id_ for id_ in ids if id_ not in held], held=Counter(held.values()))

    def _delete_events(self, org_id: UUID, ids: list[UUID]) -> history.Outcome:
        whole = history.Outcome()
        for outcome in _one_by_one("events", ids, history.delete_events, lambda _: org_id):
            whole.deleted += outcome.deleted
            whole.held.update(outcome.held)
        return whole

    def _needed_events_from(self, org_id: UUID, before: dt.datetime) -> dt.datetime:
        """The time before which no wait of the organization looks for events: its flows' `lookback` counts. What a flow
        in Python says as it runs is not known before its step waits: `held_events` sees that step then."""
        if not self._knows_needs_of(org_id):
            self._needs = {org_id: (time.monotonic(), upkeep_sql.event_needs(org=org_id)[0])}
        needs = self._needs[org_id][1]
        ready = min(needs.ready_at or self.now, self.now)
        longest = max((_lookback(text) for text in needs.lookbacks), default=dt.timedelta())
        return min(before, max(ready - longest, EPOCH + dt.timedelta(days=1)))

    def _knows_needs_of(self, org_id: UUID) -> bool:
        asked = self._needs.get(org_id)
        return asked is not None and time.monotonic() - asked[0] <= rules.REREAD_AFTER_S

    def _logs(self, org_id: UUID) -> Iterator[Piece]:
        if self.wanted.dry:
            return self._count_logs(org_id)
        old = Attempt.objects.filter(org_id=org_id, logs__isnull=False)
        return self._cleared("logs", LOG_LINES, org_id, old, lambda _, ids: upkeep_sql.clear_logs(ids=ids)[0].cleared)

    def _kept_logs(self, org_id: UUID) -> Iterator[Piece]:
        """Those that steps kept while they waited: most are among their attempts' too, which may outlive them."""

        def clear(before: dt.datetime, ids: Sequence[UUID]) -> int:
            return upkeep_sql.clear_kept_logs(ids=ids, ended_before=before)[0].cleared

        old = StepRun.objects.filter(org_id=org_id, kept_logs__isnull=False)
        return self._cleared("kept logs", "log lines of steps", org_id, old, clear)

    def _cleared(
        self,
        part: str,
        what: str,
        org_id: UUID,
        old: QuerySet[Any],
        clear: Callable[[dt.datetime, Sequence[UUID]], int],
    ) -> Iterator[Piece]:
        after = NIL_UUID
        while (before := self.cutoff("logs", org_id)) and not self.wanted.dry:
            page = old.filter(id__gt=after, id__lt=first_id(before.timestamp())).order_by("id")
            ids = list(page.values_list("id", flat=True)[:ROWS])
            if not ids:
                return
            after = ids[-1]
            cleared = sum(_one_by_one(part, ids, partial(clear, before), lambda _: org_id))
            yield Piece(subject="logs", deleted={what: cleared}, examined=len(ids))

    def _count_logs(self, org_id: UUID) -> Iterator[Piece]:
        """Those of ended runs; also of runs that would go themselves."""
        before = self.cutoff("logs", org_id)
        if before is None:
            return
        is_ended = Run.objects.filter(id=OuterRef("run_id")).exclude(ended_at=None)
        old = Attempt.objects.filter(Exists(is_ended), org_id=org_id, id__lt=first_id(before.timestamp()))
        yield Piece(subject="logs", deleted={LOG_LINES: old.exclude(logs=None).count()})

    def _outcomes(self, org_id: UUID) -> Iterator[Piece]:
        is_open = Run.objects.filter(id=OuterRef("run_id"), ended_at=None)
        kept = TriggerOutcome.objects.filter(~Exists(is_open), org_id=org_id)
        table = ages.AgedTable(
            name="headrace_workflows_triggeroutcome", subject="outcomes",
            old=lambda before: kept.filter(id__lt=first_id(before.timestamp())),
        )  # fmt: skip
        yield from self._pages(table, lambda: self.cutoff("outcomes", org_id))

    def _aged(self, table: ages.AgedTable) -> Iterator[Piece]:
        return self._pages(table, lambda: self.cutoff(table.subject) if table.subject else self._now_for_own_bounds())

    def _now_for_own_bounds(self) -> dt.datetime | None:
        """For tables that no rule is about: not in a dry run, nor where only some subjects are asked for."""
        return None if self.wanted.dry or self.wanted.subjects is not None else self.now

    def _pages(self, table: ages.AgedTable, cutoff: Callable[[], dt.datetime | None]) -> Iterator[Piece]:
        while before := cutoff():
            if self.wanted.dry:
                yield Piece(subject=table.subject, deleted={table.name: table.count(before)})
                return
            rows = table.delete(before, ROWS)
            if not rows:
                return
            yield Piece(subject=table.subject, deleted={table.name: rows})

    def _versions(self) -> Iterator[Piece]:
        before = self.cutoff("versions")
        if before is None:
            return
        old = Flow.objects.filter(versions__created_at__lt=before).distinct()
        chosen = old if self.wanted.org_ids is None else old.filter(organization_id__in=list(self.wanted.org_ids))
        for flow_id, org_id in list(chosen.order_by("id").values_list("id", "organization_id")):
            gone = sum(self._versions_of(org_id, flow_id, before))
            yield Piece(subject="versions", deleted={"headrace_workflows_flowversion": gone}, examined=ROWS)

    def _versions_of(self, org_id: UUID, flow_id: UUID, before: dt.datetime) -> list[int]:
        def delete(_: Sequence[UUID]) -> int:
            unused = [row.id for row in upkeep_sql.unused_versions(flow=flow_id, before=before, batch=PAGE)]
            return len(delete_versions(flow_id, before) if unused and not self.wanted.dry else unused)

        return _one_by_one("versions", [flow_id], delete, lambda _: org_id)


def _one_by_one(
    part: str, ids: Collection[UUID], work: Callable[[Sequence[UUID]], T], org: Callable[[UUID], UUID | None]
) -> list[T]:
    """What became of the ids, but of those that are put off: one that can't be deleted is noted, and keeps no other."""
    done: list[T] = []
    how = sweeps.Items[UUID](
        name=_sweep(part), work=lambda some: done.append(work(some)), org=org, group=ROWS, budget_s=BUDGET_S
    )
    late = set(sweeps.ledger().put_off(_sweep(part)))
    sweeps.isolated(how, [id_ for id_ in ids if id_ not in late])
    return done


def _sweep(part: str) -> str:
    """The sweep whose items are those that a part of a pass could not delete."""
    return f"{NAME} of {part}"


def delete_versions(flow_id: UUID, before: dt.datetime) -> list[UUID]:
    """Delete versions of a flow that nobody uses, with what belongs to them. Returns their ids.

    They are looked for once the flow is locked: who publishes an old definition again has locked it too.
    """
    with transaction.atomic():
        if not Flow.objects.select_for_update(skip_locked=True, no_key=True).filter(id=flow_id).exists():
            return []
        locked = list(
            FlowVersion.objects.select_for_update(skip_locked=True)
            .filter(flow_id=flow_id, created_at__lt=before).order_by("id").values_list("id", flat=True)
        )  # fmt: skip
        unused = upkeep_sql.unused_versions(flow=flow_id, before=before, batch=PAGE)
        ids = [row.id for row in unused if row.id in set(locked)]
        ages.delete_raw(Step.objects.filter(version_id__in=ids))
        ages.delete_raw(DiscoveredStep.objects.filter(version_id__in=ids))
        ages.delete_raw(FlowVersion.objects.filter(id__in=ids))
    return ids


def _lookback(text: str | None) -> dt.timedelta:
    """The duration as definitions write it; one that can't be read may be as long as any."""
    try:
        return dt.timedelta(milliseconds=parse_ms(text))
    except ValueError:
        return dt.timedelta(days=366)
