"""The repairs of a failure: a chain of runs, each of which repairs the one before it.

The first of them is the run that failed, the root; each repair has the next number. That a number exists once is a
constraint of the database (`run_repair_once`); the lock on the root only makes the second one wait for its refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from django.db import IntegrityError

from workflows.errors import AlreadyRepaired
from workflows.models import Run

ONCE = "run_repair_once"


@dataclass(frozen=True, kw_only=True)
class ChainPosition:
    """Where a run stands in its chain. `later`: the first repair after it; `next_number`: that of a new one."""

    root_id: UUID
    later: Run | None
    next_number: int


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A repair that was made, for those who keep failures. `changes`: the input's, as a JSON Patch (RFC 6902)."""

    origin_id: UUID
    root_id: UUID
    run_id: UUID
    mode: str
    by: str
    force: bool
    changes: list[dict[str, Any]] = field(default_factory=list)


def lock(root_id: UUID) -> None:
    """Locks the chain until the transaction ends: no other repair of it begins. Letters are locked after it."""
    list(Run.objects.select_for_update(no_key=True).filter(id=root_id).values_list("id"))


def position_of(run: Run) -> ChainPosition:
    """Where the run stands. Locks the chain."""
    root_id = run.repair_root_id or run.id
    lock(root_id)
    # One look: of two that pass the lock, both find the same number, and the constraint tells them apart.
    repairs = list(Run.objects.filter(repair_root_id=root_id).defer("input", "output").order_by("repair_number"))
    later = next((each for each in repairs if each.repair_number > run.repair_number), None)
    last = repairs[-1].repair_number if repairs else 0
    return ChainPosition(root_id=root_id, later=later, next_number=last + 1)


def latest(root_id: UUID) -> UUID:
    """The last repair of the chain; its root where there is none."""
    repairs = Run.objects.filter(repair_root_id=root_id).order_by("-repair_number")
    return repairs.values_list("id", flat=True).first() or root_id


def repair_of(run: Run) -> UUID | None:
    """The first repair that came after the run."""
    repairs = Run.objects.filter(
        repair_root_id=run.repair_root_id or run.id, repair_number__gt=run.repair_number
    ).order_by("repair_number")
    return repairs.values_list("id", flat=True).first()


def refusal_of(run: Run, later: Run) -> AlreadyRepaired:
    return AlreadyRepaired(run.id, later.id, status=later.status)


def is_second(error: psycopg.errors.UniqueViolation | IntegrityError) -> bool:
    """Whether the database refused a run since another one is that repair."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return isinstance(cause, psycopg.errors.UniqueViolation) and cause.diag.constraint_name == ONCE
