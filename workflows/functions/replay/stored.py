"""Recorded runs as the database has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from workflows.engine.sql import calls as sql
from workflows.engine.state import database, expression_context
from workflows.errors import InvalidInput, RunNotFound
from workflows.functions.flows import MAIN
from workflows.functions.replay.recorded import RecordedRun, StepRecord
from workflows.models import FlowVersion, Organization, Run, StepRun
from workflows.models.flow import Flow


def load(organization: Organization, run_id: UUID) -> RecordedRun:
    """The run with its journal. Raises RunNotFound, and InvalidInput for one of a flow that is not in Python."""
    found = load_all(organization, [run_id])
    if run_id not in found:
        if Run.objects.filter(org_id=organization.id, id=run_id).exists():
            raise InvalidInput("The run is of a flow that is not in Python: it has no journal of a function.")
        raise RunNotFound
    return found[run_id]


def load_all(organization: Organization, run_ids: Iterable[UUID]) -> dict[UUID, RecordedRun]:
    """Those of these runs that there are, and that are of flows in Python."""
    runs = {
        run.id: run
        for run in Run.objects.filter(org_id=organization.id, id__in=list(run_ids), flow__kind=Flow.Kind.CODE)
        .select_related("flow")
        .defer("input", "error")
    }
    functions = {
        row.run_id: row for row in StepRun.objects.filter(run_id__in=list(runs), key=MAIN, path="", type="function")
    }
    versions = FlowVersion.objects.in_bulk({run.version_id for run in runs.values()})
    with database.borrowed_from_django():
        scopes = expression_context.load(runs, ())
    return {
        id_: _recorded(run, functions[id_], versions.get(run.version_id), scopes[id_])
        for id_, run in runs.items()
        if id_ in functions and id_ in scopes
    }


def _recorded(run: Run, function: StepRun, version: FlowVersion | None, scope: Any) -> RecordedRun:
    return RecordedRun(
        id=run.id,
        flow=run.flow.slug,
        version=version.number if version is not None else 0,
        digest=_digest(version),
        status=run.status,
        attempt=max(1, function.attempt),
        created_at=run.created_at,
        scope={name: scope[name] for name in ("event", "input", "run", "org", "steps", "callbacks")},
        steps=tuple(StepRecord.of(row) for row in sql.load_journal(function=function.id)),
        output=run.output,
    )


def _digest(version: FlowVersion | None) -> str:
    try:
        return str(version.definition["steps"][0]["config"]["digest"]) if version is not None else ""
    except (LookupError, TypeError):
        return ""
