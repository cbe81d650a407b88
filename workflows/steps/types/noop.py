"""`noop`: gives back its `output`."""

from __future__ import annotations

from typing import Any

from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register


class NoopConfig(StepConfig):
    """Does nothing; useful as a join and in tests."""

    output: Any = None


def handle(context: StepContext) -> Any:
    return context.config.output


register(
    StepType(
        name="noop",
        summary="Gives back its `output`.",
        config_model=NoopConfig,
        handler=handle,
        mode=Mode.INLINE,
        pure=True,
    )
)
