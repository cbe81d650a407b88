"""`conditional`: takes the first branch whose condition is true; the steps of the other branches are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from workflows.steps.context import StepContext
from workflows.steps.outcome import Completed
from workflows.steps.registry import Mode, StepConfig, StepType, register


class Branch(StepConfig):
    """One branch: the steps `then` run when `if` is true and no earlier branch was."""

    condition: str = Field(alias="if", min_length=1)
    then: list[str] = Field(min_length=1)


class ConditionalConfig(StepConfig):
    """Branches in order, and what runs when none is true."""

    branches: list[Branch] = Field(min_length=1, max_length=100)
    otherwise: list[str] = Field(default_factory=list, alias="else")


def expressions(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    branches = config.get("branches")
    for position, branch in enumerate(branches if isinstance(branches, list) else ()):
        if isinstance(branch, dict) and isinstance(branch.get("if"), str):
            yield f"branches[{position}].if", branch["if"]


def handle(context: StepContext) -> Completed:
    config: ConditionalConfig = context.config
    everything = {key for branch in config.branches for key in branch.then} | set(config.otherwise)
    for position, branch in enumerate(config.branches):
        if context.expression(branch.condition).is_true(context.scope):
            return _chosen_branch(f"branches[{position}]", branch.then, everything)
    return _chosen_branch("else", config.otherwise, everything)


def _chosen_branch(name: str, then: list[str], everything: set[str]) -> Completed:
    return Completed(output={"branch": name, "then": then}, not_taken=frozenset(everything.difference(then)))


register(
    StepType(
        name="conditional",
        summary="Takes the first branch whose condition is true; the others are skipped.",
        config_model=ConditionalConfig,
        handler=handle,
        mode=Mode.INLINE,
        pure=True,
        raw_fields=frozenset({"branches", "else"}),
        expressions=expressions,
    )
)
