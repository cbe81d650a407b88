"""Runs of the examples' flows, as the tests make them."""

from __future__ import annotations

import uuid
from typing import Any

from tests.support.workers import await_end, await_that
from workflows import selectors, services
from workflows.functions.flows import FunctionFlow
from workflows.models import Attempt, Organization, Run, StepRun


def publish(org: Organization, *flows: FunctionFlow) -> None:
    for flow in flows:
        services.apply_definition(org, flow.spec())


def start(org: Organization, flow: FunctionFlow, data: Any = None) -> uuid.UUID:
    publish(org, flow)
    return services.trigger(org, flow.slug, data).run_ids[0]


def run(org: Organization, flow: FunctionFlow, data: Any = None, patience_s: float = 40) -> selectors.RunDetail:
    """Publish a flow, trigger it, and wait."""
    return await_end(org, start(org, flow, data), patience_s)


def output(org: Organization, flow: FunctionFlow, data: Any = None, patience_s: float = 40) -> Any:
    """What a run that completes gives."""
    detail = run(org, flow, data, patience_s)
    assert detail.run.status == "completed", detail.run.error
    return detail.run.output


def await_run_of(org: Organization, flow: FunctionFlow) -> selectors.RunDetail:
    """The first run of the flow, once it has ended."""
    found = await_that(lambda: Run.objects.filter(org_id=org.id, flow__slug=flow.slug).first(), what=flow.slug)
    return await_end(org, found.id)


def journal(run_id: uuid.UUID) -> list[tuple[str, str]]:
    """The steps that the code has asked for: (key, status)."""
    return list(StepRun.objects.filter(run_id=run_id, path="main").order_by("position").values_list("key", "status"))


def tries(run_id: uuid.UUID, key: str) -> int:
    return StepRun.objects.get(run_id=run_id, key=key).attempt


def lines(run_id: uuid.UUID) -> list[str]:
    """What the run has logged, in the order of its tries."""
    logs = Attempt.objects.filter(run_id=run_id).order_by("id").values_list("logs", flat=True)
    return [line["message"] for kept in logs for line in kept or ()]
