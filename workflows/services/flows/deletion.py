"""Deleting all rows of a flow, in batches that each commit.

A process that dies in between loses nothing: what is left is found again by the flow, which goes last, and by its runs,
each of which goes after what belongs to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet

from workflows import signals
from workflows.models import (
    Attempt,
    CronFire,
    FanOut,
    Flow,
    FlowVersion,
    IdempotencyKey,
    Item,
    Run,
    RunStart,
    Step,
    StepRun,
    TriggerOutcome,
    Wait,
)

RUNS = 50
ROWS = 2_000
VERSIONS = 20


def delete_flow(flow: Flow, *, until: float) -> bool:
    """Delete rows of the flow until then (by the monotonic clock), one batch at least. Returns whether it is gone."""
    steps: tuple[Callable[[Flow], bool], ...] = (_runs, _of_flow, _versions)
    for step in steps:
        while step(flow):
            if time.monotonic() > until:
                return False
    with transaction.atomic():
        if not Flow.objects.select_for_update(of=("self",)).filter(id=flow.id).exists():
            return True  # somebody else was faster
        if Run.objects.filter(flow_id=flow.id).exists():
            return False
        signals.flow_deleted.send(sender=None, flow=flow)
        Flow.objects.get(id=flow.id).delete()
    return True


def _runs(flow: Flow) -> bool:
    """A page of runs with all that belongs to them. Returns whether there may be more."""
    ids = list(Run.objects.filter(flow_id=flow.id).order_by("id").values_list("id", flat=True)[:RUNS])
    if not ids:
        return False
    signals.runs_deleted.send(sender=None, run_ids=ids)
    _all(Attempt.objects.filter(run_id__in=ids))
    for container in FanOut.objects.filter(run_id__in=ids).values_list("step_run_id", flat=True):
        _items(container)
    _all(FanOut.objects.filter(run_id__in=ids))
    while steps := list(StepRun.objects.filter(run_id__in=ids).values_list("id", flat=True)[:ROWS]):
        with transaction.atomic():
            _raw(Wait.objects.filter(step_run_id__in=steps))
            _raw(StepRun.objects.filter(id__in=steps))
    _raw(Run.objects.filter(id__in=ids))
    return True


def _items(container: Any) -> None:
    found = Item.objects.filter(container_id=container)
    while (first := found.order_by("index").values_list("index", flat=True).first()) is not None:
        _raw(found.filter(index__lt=first + ROWS))


def _of_flow(flow: Flow) -> bool:
    """A page of what belongs to the flow itself. Returns whether there may be more."""
    outcomes = TriggerOutcome.objects.filter(org_id=flow.organization_id, flow_id=flow.id)
    deleted = _page(outcomes) + _page(RunStart.objects.filter(flow_id=flow.id))
    deleted += _page(CronFire.objects.filter(flow_id=flow.id))
    keys = IdempotencyKey.objects.filter(org_id=flow.organization_id, flow_id=flow.id)
    names = list(keys.order_by("key").values_list("key", flat=True)[:ROWS])
    return bool(deleted + (_raw(keys.filter(key__in=names)) if names else 0))


def _versions(flow: Flow) -> bool:
    """A page of versions with their steps. Returns whether there may be more."""
    ids = list(FlowVersion.objects.filter(flow_id=flow.id).order_by("id").values_list("id", flat=True)[:VERSIONS])
    if not ids:
        return False
    with transaction.atomic():
        Flow.objects.filter(id=flow.id, current_id__in=ids).update(current=None)
        _raw(Step.objects.filter(version_id__in=ids))
        _raw(FlowVersion.objects.filter(id__in=ids))
    return True


def _all(rows: QuerySet[Any]) -> None:
    while _page(rows):
        pass


def _page(rows: QuerySet[Any]) -> int:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS])
    return _raw(rows.model._default_manager.filter(pk__in=ids)) if ids else 0


def _raw(rows: QuerySet[Any]) -> int:
    """One statement, without loading the rows. Returns how many there were."""
    model: type[Model] = rows.model
    return int(rows._raw_delete(using=rows.db)) if model else 0
