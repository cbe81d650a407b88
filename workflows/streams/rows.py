"""The rows that live streams tell of, read for all streams of a process with a few statements."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from workflows.engine.sql import services as sql
from workflows.models import Attempt, FanOut, Run, StepRun
from workflows.models.run import first_id
from workflows.selectors.runs import NOT_OF_AN_ITEM, by_step_run

PAGE = 500
"""At most so many tries, starts and ends of an organization in one look."""


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """A run as it is: its row (None once it is deleted), its steps in order, and the progress of its containers."""

    run: Run | None
    steps: Sequence[StepRun] = ()
    fan_outs: dict[UUID, FanOut] = field(default_factory=dict)


def read_runs(run_ids: Collection[UUID]) -> dict[UUID, RunRows]:
    """The rows of these runs, in three statements."""
    wanted = list(run_ids)
    columns = ("status", "error", "started_at", "ended_at", "created_at")
    runs = Run.objects.only(*columns).in_bulk(wanted)
    steps: dict[UUID, list[StepRun]] = defaultdict(list)
    for step in StepRun.objects.filter(NOT_OF_AN_ITEM, run_id__in=wanted).defer("output").order_by("path", "position"):
        steps[step.run_id].append(step)
    fan_outs: dict[UUID, dict[UUID, FanOut]] = defaultdict(dict)
    for fan_out in FanOut.objects.filter(run_id__in=wanted):
        fan_outs[fan_out.run_id][fan_out.step_run_id] = fan_out
    return {
        run_id: RunRows(run=runs.get(run_id), steps=steps.get(run_id, ()), fan_outs=fan_outs.get(run_id, {}))
        for run_id in wanted
    }


def read_attempts(run_ids: Collection[UUID], step_run_ids: Collection[UUID]) -> dict[UUID, list[Attempt]]:
    """The tries of these steps of these runs by step run, in their order, in one statement."""
    if not step_run_ids:
        return {}
    rows = Attempt.objects.filter(run_id__in=list(run_ids), step_run_id__in=list(step_run_ids))
    return by_step_run(rows.order_by("id").defer("input", "logs"))


@dataclass(frozen=True, kw_only=True)
class Window:
    """What is asked for: the changes of an organization since a moment."""

    org_id: UUID
    after: dt.datetime


@dataclass(kw_only=True)
class OrganizationRows:
    """The changes of an organization since a moment; `now` is the database's clock."""

    now: dt.datetime
    tries: list[tuple[Attempt, StepRun]] = field(default_factory=list)
    starts: list[StepRun] = field(default_factory=list)
    ends: list[Run] = field(default_factory=list)
    read_until: dt.datetime | None = None
    """Where a page was full: up to here everything was read."""


def read_organizations(windows: Sequence[Window]) -> list[OrganizationRows]:
    """The changes in each of these windows, in five statements for all of them."""
    changes = sql.stream_changes(
        orgs=[window.org_id for window in windows],
        afters=[window.after for window in windows],
        firsts=[first_id(window.after.timestamp()) for window in windows],
        page=PAGE,
    )
    ids: dict[str, set[UUID]] = defaultdict(set)
    pages: dict[tuple[int, str], list[dt.datetime]] = defaultdict(list)
    for change in changes:
        if change.id is not None:
            ids[change.kind].add(change.id)
        pages[change.number, change.kind].append(change.at)
    tries = Attempt.objects.defer("input", "logs").in_bulk(ids["try"])
    steps = StepRun.objects.defer("output").in_bulk({each.step_run_id for each in tries.values()} | ids["start"])
    ends = Run.objects.only("id", "status", "error", "ended_at").in_bulk(ids["end"])
    read = [OrganizationRows(now=pages[0, "now"][0]) for _ in windows]
    for change in sorted(changes, key=lambda each: each.at):
        if change.id is None:
            continue
        rows = read[change.number - 1]
        attempt, step, run = tries.get(change.id), steps.get(change.id), ends.get(change.id)
        if attempt is not None and (owner := steps.get(attempt.step_run_id)) is not None:
            rows.tries.append((attempt, owner))
        elif change.kind == "start" and step is not None and step.status == "running":
            rows.starts.append(step)
        elif run is not None:
            rows.ends.append(run)
    for (number, _), moments in pages.items():
        if number and len(moments) >= PAGE:
            rows = read[number - 1]
            rows.read_until = min(max(moments), rows.read_until or max(moments))
    return read
