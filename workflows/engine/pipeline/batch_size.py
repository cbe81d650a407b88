"""How long a step lately took, to decide how many fit a message: 50 ms of work at most, `max_batch` of its type.

Only steps that are executed one after the other within a visit count; asynchronous ones overlap.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from workflows import this_process
from workflows.steps.registry import Mode, StepType

MESSAGE_WORK_S = 0.050
MAX_KEYS = 10_000
MAX_BLOCKING = 10


class RecentDurations(OrderedDict[tuple[UUID, str], float]):
    """Seconds that each step of a version lately took in this process."""


def observe(version_id: UUID, key: str, seconds: float) -> None:
    """Note a duration. A slow one counts at once, a fast one lets the estimate decay: an estimate of the p95."""
    recent = this_process.own(RecentDurations)
    recent[version_id, key] = max(seconds, recent.get((version_id, key), 0.0) * 0.95)
    if len(recent) > MAX_KEYS:
        recent.popitem(last=False)


def batch_size(step_type: StepType, mode: Mode, version_id: UUID, key: str) -> int:
    """How many of this step a message may carry."""
    if mode is not Mode.INLINE:
        return step_type.max_batch if mode is Mode.ASYNC else min(step_type.max_batch, MAX_BLOCKING)
    known = this_process.own(RecentDurations).get((version_id, key))
    if not known:
        return step_type.max_batch
    return max(1, min(step_type.max_batch, int(MESSAGE_WORK_S / known)))
