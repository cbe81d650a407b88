"""Whether a step runs: the outcomes of the steps that it needs, whose sum is its `needs_met`, and its condition. Pure.

`record_outcomes.sql` adds the weights as outcomes are recorded, `repair.plan` those of outcomes that are taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from workflows.definitions.compiled import CompiledStep

NEEDS_SKIPPED = "needs_skipped"
VETO = -1_000_000
"""Of a branch that was not taken: `needs_met` falls far below zero, whatever else the step needs."""


def weight(step: CompiledStep, successor: str, *, status: str, not_taken: Collection[str]) -> int:
    """What an ended step adds to the `needs_met` of a successor: 1 lets it run, 0 does not, VETO forbids it.

    `not_taken`: the successors whose branch was not chosen. A fallback runs only after a failure, and stands in for the
    failed step then.
    """
    if status == "skipped":
        return 0
    if successor in not_taken:
        return VETO
    return int(step.fallback is None or (successor == step.fallback) == (status == "failed"))


def all_skipped(*, needs_total: int, needs_met: int) -> bool:
    """Whether none of a step's needs lets it run, so that it is skipped."""
    return needs_total > 0 and needs_met <= 0


class Wanted(Protocol):
    """A step that is ready or claimed."""

    @property
    def all_needs_skipped(self) -> bool: ...


def reason_to_skip(wanted: Wanted, step: CompiledStep, scope: Mapping[str, Any]) -> str:
    """Why the step does not run: `needs_skipped` or `condition`; empty where it runs.

    Raises ExpressionError where the condition can't be evaluated.
    """
    if wanted.all_needs_skipped:
        return NEEDS_SKIPPED
    if step.condition is not None and not step.condition.is_true(scope):
        return "condition"
    return ""
