"""`publish_event`: sends an event, which may start other flows."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register


class PublishEventConfig(StepConfig):
    """An event by name, with its data. It is sent once per step, however often the step is tried."""

    name: str = Field(min_length=1, max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)
    user: dict[str, Any] = Field(default_factory=dict)


def handle(context: StepContext) -> dict[str, Any]:
    from workflows.engine.events import NewEvent, receive  # noqa: PLC0415  (the engine imports the step types)

    config: PublishEventConfig = context.config
    event = NewEvent(id=context.step_run_id, name=config.name, data=config.data, user=config.user)
    receive(context.org_id, [event])
    return {"eventId": str(event.id)}


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
