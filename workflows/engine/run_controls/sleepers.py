"""Runs that only wait: they give up their places among all runs, so that waiting for a person, an event or a time stops
nobody else. When they go on they ask for a place again, ahead of runs that have not started."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from workflows.engine.pipeline import admit
from workflows.engine.sql import run_controls as sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import Claim, StepResult


def after(results: Sequence[StepResult], statuses: Collection[UUID], *, busy: Collection[UUID]) -> list[UUID]:
    """The runs that only wait since these outcomes were recorded. `busy`: runs that are known to go on, or ended."""
    steps = (result.claim for result in results if result.claim.id in statuses)
    return among({step.run_id for step in steps if step.run_id not in busy and _has_place(step)})


def among(run_ids: Iterable[UUID]) -> list[UUID]:
    """Of these runs those that only wait now."""
    ids = list(run_ids)
    return [row.id for row in sql.sleeping_runs(ids=ids)] if ids else []


def _has_place(step: Claim) -> bool:
    if not admit.is_on():
        return False
    flow = flow_cache.find(step.version_id)
    return flow is not None and step.key in flow.steps and admit.limits_of(step.version_id, step.key).has_place
