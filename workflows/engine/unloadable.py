"""Steps whose version this process can't load: they fail, with a dead letter that names the path, and no other does.

A version with a step type or a field that this process does not know may be of a newer release: in a rolling deployment
another process loads it. Its steps are left to others for a while first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TypeVar

from workflows import taxonomy
from workflows.engine import catalog, recording, transitions
from workflows.engine.failure import describe
from workflows.engine.outcome import Failed, Retry
from workflows.engine.rows import NOBODY, Claim, ReadyStep, Recorded, Verdict
from workflows.errors import ConfigurationFailure, FlowNotFound, UnloadableVersion, WorkflowsError

T = TypeVar("T", Claim, ReadyStep)
LEFT_TO_OTHERS_S = 5.0


def divide(steps: Iterable[T]) -> tuple[list[T], list[tuple[T, WorkflowsError]]]:
    """(those whose version loads and has them, the others with the reason)."""
    asked = list(steps)
    loaded = catalog.load({step.version_id for step in asked})
    usable: list[T] = []
    refused: list[tuple[T, WorkflowsError]] = []
    for step in asked:
        flow = loaded.flows.get(step.version_id)
        if flow is not None and step.key in flow.steps:
            usable.append(step)
        else:
            refused.append((step, loaded.refused.get(step.version_id) or _no_such_step(step.key)))
    return usable, refused


def _no_such_step(key: str) -> UnloadableVersion:
    return UnloadableVersion(f"The version has no step {key!r}.", path="steps", reason=f"There is no step {key!r}.")


def is_newer(error: BaseException) -> bool:
    return isinstance(error, UnloadableVersion) and error.newer


def verdict_on(claim: Claim, error: WorkflowsError) -> Verdict:
    """What becomes of a step that this process has claimed: it fails, or is left to others for a moment."""
    if is_newer(error) and claim.told_waits < taxonomy.MAX_TOLD_WAITS:
        return Verdict(claim=claim, outcome=Retry(error=describe(error), delay_s=LEFT_TO_OTHERS_S, told=True))
    return Verdict(claim=claim, outcome=Failed(error=describe(_as_configuration(error))))


def fail(steps: Sequence[ReadyStep], error: BaseException) -> Recorded:
    """Ready steps that can't be started by anybody: they fail, for the reason given, and so do their runs."""
    claimed = transitions.claim([(str(step.id), step.attempt) for step in steps], worker=NOBODY, lease=uuid.uuid4())
    described = describe(_as_configuration(error))
    return recording.record([Verdict(claim=claim, outcome=Failed(error=described)) for claim in claimed.claims])


def _as_configuration(error: BaseException) -> BaseException:
    """A version that is not there is no transient fault either."""
    return ConfigurationFailure(str(error)) if isinstance(error, FlowNotFound) else error
