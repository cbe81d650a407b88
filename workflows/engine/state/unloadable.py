"""Steps whose version this process can't load: they fail, with a dead letter that names the path, and no other does.

A version with a step type or a field that this process does not know may be of a newer release: in a rolling deployment
another process loads it. Its steps are left to others.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.pipeline import record
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.state import flow_cache
from workflows.engine.state.records import Claim, ReadyStep, Recorded, StepResult
from workflows.engine.state.transitions import steps as step_transitions
from workflows.errors import ConfigurationFailure, FlowNotFound, WorkflowsError
from workflows.steps.outcome import Failed, HandBack


def result_of(claim: Claim, error: WorkflowsError) -> StepResult:
    """The result of a claimed step whose version can't be loaded: it fails. Where a process of a newer release may load
    it, it is offered again every five seconds, without end: such a process may be started at any time."""
    if flow_cache.is_newer(error):
        return StepResult(claim=claim, outcome=HandBack(after_s=record.LEFT_TO_OTHERS_S))
    return StepResult(claim=claim, outcome=Failed(error=describe(_as_configuration(error))))


def fail(steps: Sequence[ReadyStep], error: BaseException) -> Recorded:
    """Ready steps that can't be started by anybody: they fail, for the reason given, and so do their runs."""
    claimed = step_transitions.claim(
        [(str(step.id), step.attempt) for step in steps], worker=NIL_UUID, lease=uuid.uuid4()
    )
    described = describe(_as_configuration(error))
    return record.record([StepResult(claim=claim, outcome=Failed(error=described)) for claim in claimed.claims])


def _as_configuration(error: BaseException) -> BaseException:
    """A version that is not there is no transient fault either."""
    return ConfigurationFailure(str(error)) if isinstance(error, FlowNotFound) else error
