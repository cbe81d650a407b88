"""Failures for good, as they are announced to dead letters within the transaction that records them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from workflows import signals
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.calls import waiting as calls
from workflows.engine.containers import fan_out
from workflows.engine.state import database
from workflows.engine.state.records import StepFailed, StepResult
from workflows.steps.outcome import Failed, StepError


def announce(failures: Sequence[StepFailed], cursor: database.Cursor) -> None:
    """Tell the rest of the project of failures for good, within the transaction that records them."""
    if failures:
        signals.steps_failed.send(sender=None, failures=failures, cursor=cursor)


def of_run(flow: CompiledFlow, run_id: UUID, error: StepError, *, what: str = "output") -> StepFailed:
    """The failure of a run by itself, and not of one of its steps."""
    return StepFailed(
        org_id=flow.org_id,
        run_id=run_id,
        step_run_id=None,
        step_key="",
        step_type=what,
        attempts=1,
        error=error,
        alert=flow.alert_on_failure,
    )


def of_step(result: StepResult, flow: CompiledFlow | None) -> StepFailed | None:
    """The failure of a step. None where another step stands in for it, and for a container or a function that fails
    because of a step in it, which has been announced."""
    claim = result.claim
    assert isinstance(result.outcome, Failed)
    if flow is not None and claim.key in flow.steps and flow.steps[claim.key].fallback is not None:
        return None
    if result.outcome.error.name == fan_out.ITEM_FAILED and claim.lease is None:
        return None
    if result.outcome.error.name == calls.STEP_FAILED and claim.type == calls.FUNCTION:
        return None
    return StepFailed(
        org_id=claim.org_id,
        run_id=claim.run_id,
        step_run_id=claim.id,
        step_key=claim.key,
        step_type=claim.type,
        attempts=claim.attempt,
        error=result.outcome.error,
        alert=flow is not None and flow.alert_on_failure,
    )
