"""Functions and the steps that they have asked for: a function waits, holding nothing, until these have ended.

Both changes belong to the transactions that record outcomes, so that no end is missed: who records the end of a step
has locked the function's row before, and then looks, in another statement, whether it waits; who suspends a function
has changed its row before it looks at the steps. The one that gets the row second sees what the other has committed.
And the steps of a function end one after the other: a visit that sees an end sees all those with earlier times.
"""

from __future__ import annotations

from collections.abc import Sequence

from workflows.definitions.schema import FUNCTION
from workflows.engine.state import database
from workflows.engine.state.records import Claim, ReadyStep, Recorded, StepResult
from workflows.engine.state.transitions import calls as transitions
from workflows.models.run import ENDED_STEP
from workflows.steps.outcome import Completed, Failed, Skipped, Suspended

__all__ = ["FUNCTION", "STEP_FAILED", "advance", "is_call"]

STEP_FAILED = "StepFailed"
"""The name of the error with which a function fails because of a step whose failure it did not catch."""
_ENDS = (Completed, Failed, Skipped)


def is_call(claim: Claim) -> bool:
    """Whether a function has asked for the step."""
    return claim.container_id is not None and claim.index is None


def lock(results: Sequence[StepResult], cursor: database.Cursor) -> None:
    """Before the outcomes are recorded, in the same transaction: lock the functions whose steps may end by them."""
    functions = {
        result.claim.container_id
        for result in results
        if is_call(result.claim) and isinstance(result.outcome, _ENDS) and result.claim.container_id is not None
    }
    if functions:
        transitions.lock(functions, cursor)


def advance(results: Sequence[StepResult], recorded: Recorded, cursor: database.Cursor) -> list[ReadyStep]:
    """Within the transaction that has recorded outcomes: the functions that are ready for their next visits."""
    visited = {result.claim.id for result in results if result.claim.type == FUNCTION}
    ended = [
        result.claim.id
        for result in results
        if is_call(result.claim)
        and result.claim.container_id not in visited
        and recorded.statuses.get(result.claim.id) in ENDED_STEP
    ]
    suspended = [
        result
        for result in results
        if isinstance(result.outcome, Suspended) and recorded.statuses.get(result.claim.id) == "waiting"
    ]
    ready = transitions.wake(ended, cursor) + transitions.suspend(suspended, cursor)
    for step in ready:
        if step.id in recorded.statuses:
            recorded.statuses[step.id] = "ready"
    return ready
