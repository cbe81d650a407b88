"""How long a step lately took, to decide how many fit a message: 50 ms of work at most, `max_batch` of its type.

Only steps that are executed one after the other within a visit count by their slowest; asynchronous ones overlap, and
blocking ones are spread over threads by what they take on average.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from workflows import this_process
from workflows.steps.registry import Mode, StepType

MESSAGE_WORK_S = 0.050
MAX_KEYS = 10_000
MAX_BLOCKING = 10
"""Of blocking steps that are not known to be quick."""


class RecentDurations(OrderedDict[tuple[UUID, str], float]):
    """Seconds that each step of a version lately took in this process."""


class MeanDurations(OrderedDict[tuple[UUID, str] | str, float]):
    """Seconds that the blocking steps of this process lately took on average, by version and key, and by type."""


def observe(version_id: UUID, key: str, seconds: float) -> None:
    """Note a duration. A slow one counts at once, a fast one lets the estimate decay: an estimate of the p95."""
    recent = this_process.own(RecentDurations)
    recent[version_id, key] = max(seconds, recent.get((version_id, key), 0.0) * 0.95)
    if len(recent) > MAX_KEYS:
        recent.popitem(last=False)


def observe_blocking(version_id: UUID, key: str, type_name: str, seconds: float) -> None:
    """Note the duration of a blocking step: it counts a tenth."""
    means = this_process.own(MeanDurations)
    for of in ((version_id, key), type_name):
        before = means.get(of)
        means[of] = seconds if before is None else before * 0.9 + seconds * 0.1
    if len(means) > MAX_KEYS:
        means.popitem(last=False)


def mean_s(version_id: UUID, key: str) -> float | None:
    """Seconds that a blocking step takes on average in this process; None where nobody knows."""
    return this_process.own(MeanDurations).get((version_id, key))


def batch_size(step_type: StepType, mode: Mode, version_id: UUID, key: str) -> int:
    """How many of this step a message may carry."""
    if mode is Mode.ASYNC:
        return step_type.max_batch
    if mode is Mode.THREAD:
        return _of_blocking(step_type, mean_s(version_id, key))
    known = this_process.own(RecentDurations).get((version_id, key))
    if not known:
        return step_type.max_batch
    return max(1, min(step_type.max_batch, int(MESSAGE_WORK_S / known)))


def _of_blocking(step_type: StepType, seconds: float | None) -> int:
    """Of a type whose steps all block a full message, where nobody knows better: the worker divides it."""
    if seconds is None and step_type.mode is Mode.THREAD:
        return step_type.max_batch
    fit = MAX_BLOCKING if not seconds else max(MAX_BLOCKING, int(MESSAGE_WORK_S / seconds))
    return min(step_type.max_batch, fit)


def fit(step_type: StepType) -> int:
    """How many steps of a type this worker claims of one message: all, but of those that block a few only, unless they
    are known to be quick."""
    if step_type.mode is not Mode.THREAD:
        return step_type.max_batch
    seconds = this_process.own(MeanDurations).get(step_type.name)
    return min(step_type.max_batch, MAX_BLOCKING) if seconds is None else _of_blocking(step_type, seconds)
