"""How long a step lately took, to decide how many fit a message: 50 ms of work at most, `max_batch` of its type.

Only steps that are executed one after the other within a visit count by their slowest; asynchronous ones overlap, and
blocking ones are spread over threads by what they take on average. Calls of one name by a flow in Python (`charge`,
`charge:1`, …) count as one step.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from workflows import this_process
from workflows.definitions.discovered import name_of
from workflows.steps.registry import Mode, StepType

MESSAGE_WORK_S = 0.050
MAX_KEYS = 10_000
MAX_BLOCKING = 10
"""Of blocking steps that are not known to be quick."""


class RecentDurations(OrderedDict[tuple[UUID, str], float]):
    """Seconds that each step of a version lately took in this process, by version and name."""


class MeanDurations(OrderedDict[tuple[UUID, str] | str, float]):
    """Seconds that the steps of this process lately took on average that block or are awaited, by version and name;
    those that block by type, too."""


def observe(version_id: UUID, key: str, seconds: float) -> None:
    """Note a duration. A slow one counts at once, a fast one lets the estimate decay: an estimate of the p95."""
    recent = this_process.own(RecentDurations)
    of = version_id, name_of(key)
    recent[of] = max(seconds, recent.get(of, 0.0) * 0.95)
    if len(recent) > MAX_KEYS:
        recent.popitem(last=False)


def observe_blocking(version_id: UUID, key: str, type_name: str, seconds: float) -> None:
    """Note the duration of a blocking step: it counts a tenth."""
    _note_mean((version_id, name_of(key)), seconds)
    _note_mean(type_name, seconds)


def observe_awaited(version_id: UUID, key: str, seconds: float) -> None:
    """Note the duration of a step on the event loop: it counts a tenth."""
    _note_mean((version_id, name_of(key)), seconds)


def _note_mean(of: tuple[UUID, str] | str, seconds: float) -> None:
    means = this_process.own(MeanDurations)
    before = means.get(of)
    means[of] = seconds if before is None else before * 0.9 + seconds * 0.1
    if len(means) > MAX_KEYS:
        means.popitem(last=False)


def mean_s(version_id: UUID, key: str) -> float | None:
    """Seconds that a step takes on average in this process that blocks or is awaited; None where nobody knows."""
    return this_process.own(MeanDurations).get((version_id, name_of(key)))


def batch_size(step_type: StepType, mode: Mode, version_id: UUID, key: str) -> int:
    """How many of this step a message may carry."""
    if mode is Mode.ASYNC:
        return step_type.max_batch
    if mode is Mode.THREAD:
        return _of_blocking(step_type, mean_s(version_id, key))
    known = this_process.own(RecentDurations).get((version_id, name_of(key)))
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
