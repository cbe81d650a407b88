"""Telling step types of the ends of their steps, where they want to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

import structlog

from workflows.engine.state.records import StepResult
from workflows.models.run import ENDED_STEP
from workflows.steps.registry import REGISTRY

log = structlog.get_logger(__name__)


def tell_types(results: Iterable[StepResult], statuses: Mapping[UUID, str]) -> None:
    """Tell of the steps that have ended by these recorded results; `statuses`: the status that each has now."""
    for result in results:
        step_type = REGISTRY.get(result.claim.type)
        if step_type is None or step_type.after_record is None:
            continue
        if statuses.get(result.claim.id) in ENDED_STEP:
            try:
                step_type.after_record(result.claim.id)
            except Exception:
                log.exception("a step type could not be told of a step's end", type=step_type.name)
