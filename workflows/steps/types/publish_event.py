"""`publish_event`: sends an event, which may start other flows."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register
from workflows.steps.tools import TOOLS


class PublishEventConfig(StepConfig):
    """An event by name, with its data. It is sent once per step, however often the step is tried."""

    name: str = Field(min_length=1, max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)
    user: dict[str, Any] = Field(default_factory=dict)


def handle(context: StepContext) -> dict[str, Any]:
    config: PublishEventConfig = context.config
    TOOLS.send_event(context.org_id, context.step_run_id, config.name, config.data, config.user)
    return {"eventId": str(context.step_run_id)}


register(
    StepType(
        name="publish_event",
        summary="Sends an event, which may start other flows.",
        config_model=PublishEventConfig,
        handler=handle,
        mode=Mode.THREAD,
        pure=True,
    )
)
