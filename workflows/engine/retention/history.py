"""Deleting a page of runs: those that nobody refers to disappear at once, what belongs to them piece by piece after it.

Two statements decide, in one transaction: the first locks the rows that nobody else has locked, the second, which sees
what was committed until then, looks for what refers to them. A verb that begins to refer to an ended run (a repair, a
fork, a letter that is opened again) locks the run's row before: either it was first, and is seen, or it finds no run.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from workflows import signals
from workflows.engine.sql import retention as sql

OPERATIONS_OVER_RUNS = ("replay_runs",)
"""The bulk actions that are done to ended runs."""
LOCKED = "somebody works on it"
Export = Callable[[Sequence[UUID]], None]


@dataclass(kw_only=True)
class Outcome:
    """What became of a page: the ids that are deleted, and by reason how many are kept."""

    deleted: list[UUID] = field(default_factory=list)
    held: Counter[str] = field(default_factory=Counter)


def delete_runs(ids: Sequence[UUID], *, before: dt.datetime, export: Export | None = None) -> Outcome:
    """Delete those of these runs that ended before a time and that nothing refers to. `export` is called with their ids
    before; where it raises, nothing is deleted."""
    with _lazily_committed():
        locked = [row.id for row in sql.lock_expired_runs(ids=ids, before=before)]
        held = held_runs(locked)
        free = [id_ for id_ in locked if id_ not in held]
        if free and export is not None:
            export(free)
        if free:
            signals.runs_deleted.send(sender=None, run_ids=free)
            free = [row.id for row in sql.delete_runs(ids=free)]
    reasons = Counter(held.values())
    if len(ids) > len(locked):
        reasons[LOCKED] += len(ids) - len(locked)
    return Outcome(deleted=free, held=reasons)


def held_runs(ids: Sequence[UUID]) -> dict[UUID, str]:
    """Of ended runs those that something refers to, and what. In a transaction that has locked them it stays so."""
    if not ids:
        return {}
    held = {row.id: row.reason for row in sql.held_runs(ids=ids, operations=OPERATIONS_OVER_RUNS)}
    rest = [id_ for id_ in ids if id_ not in held]
    if rest:
        for _, answer in signals.runs_expire.send(sender=None, run_ids=rest):
            kept: Any = answer or {}  # the stubs know texts only
            held.update(kept)
    return held


def delete_events(ids: Sequence[UUID]) -> Outcome:
    """Delete those of these matched events that nothing refers to."""
    with _lazily_committed():
        locked = [row.id for row in sql.lock_events(ids=ids)]
        held = {row.id: row.reason for row in sql.held_events(ids=locked)}
        free = [id_ for id_ in locked if id_ not in held]
        deleted = [row.id for row in sql.delete_events(ids=free)] if free else []
    return Outcome(deleted=deleted, held=Counter(held.values()))


def delete_remains(runs: Sequence[UUID], budget: int) -> dict[str, int]:
    """Delete what is left of these deleted runs, so many rows at most, in one transaction. Returns rows by table;
    nothing where there is no rest. Who dies in between loses nothing: the rows of `PrunedRun` say what is left."""
    with _lazily_committed():
        runs = [row.run_id for row in sql.pruned_runs(runs=runs, put_off=[], batch=len(runs))]
        if not runs:
            return {}
        done: dict[str, int] = {}
        for table, delete in REMAINS.items():
            wanted = budget - sum(done.values())
            done[table] = delete(runs, wanted)
            if done[table] == wanted:  # there may be more
                return done
        done["headrace_workflows_prunedrun"] = len(sql.forget_pruned_runs(runs=runs))
    return done


@contextmanager
def _lazily_committed() -> Iterator[None]:
    """A transaction whose commit waits for no disk: should it be lost in a crash, the next pass deletes once more."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
        yield


REMAINS: dict[str, Callable[[Sequence[UUID], int], int]] = {
    "headrace_workflows_attempt": lambda runs, batch: sql.delete_attempts(runs=runs, batch=batch)[0].rows,
    "headrace_workflows_item": lambda runs, batch: sql.delete_items(runs=runs, batch=batch)[0].rows,
    "headrace_workflows_fanout": lambda runs, batch: sql.delete_fan_outs(runs=runs, batch=batch)[0].rows,
    "headrace_workflows_steprun": lambda runs, batch: sql.delete_step_runs(runs=runs, batch=batch)[0].rows,
}
"""What belongs to a run, in the order in which it is deleted."""
RUNS_AT_ONCE = 100
