"""`publish_event`: sends events, which may start other flows."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from pydantic import Field, model_validator

from workflows.models.event import event_id
from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register
from workflows.steps.tools import TOOLS

MAX_EVENTS = 1_000


class SentEvent(StepConfig):
    """One event of several."""

    name: str = Field(min_length=1, max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)
    user: dict[str, Any] = Field(default_factory=dict)


class PublishEventConfig(StepConfig):
    """An event by name, with its data; or several `events`, of which all are sent or none. They are sent once per step,
    however often the step is tried."""

    name: str | None = Field(None, min_length=1, max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)
    user: dict[str, Any] = Field(default_factory=dict)
    events: list[SentEvent] | None = Field(None, min_length=1, max_length=MAX_EVENTS)

    @model_validator(mode="after")
    def _one_or_several(self) -> PublishEventConfig:
        if (self.name is None) == (self.events is None):
            raise ValueError("give either name (of one event) or events (a list of {name, data, user})")
        if self.events is not None and (self.data or self.user):
            raise ValueError("each of the events has its own data and user: leave out those beside the list")
        return self

    def sent(self, step_run_id: UUID) -> list[tuple[UUID, SentEvent]]:
        """The events with their ids, the same in every try. The only one has that of the step."""
        if self.events is None:
            assert self.name is not None
            return [(step_run_id, SentEvent(name=self.name, data=self.data, user=self.user))]
        return [
            (event_id(step_run_id, uuid.uuid5(step_run_id, f"event:{number}")), event)
            for number, event in enumerate(self.events)
        ]


def output_of(config: PublishEventConfig, step_run_id: UUID) -> dict[str, Any]:
    """What the step gives: `eventId`, or for several `eventIds` in their order."""
    ids = [str(id_) for id_, _ in config.sent(step_run_id)]
    return {"eventId": ids[0]} if config.events is None else {"eventIds": ids}


def handle(context: StepContext) -> dict[str, Any]:
    config: PublishEventConfig = context.config
    TOOLS.send_events(
        context.org_id,
        [(id_, event.name, event.data, event.user) for id_, event in config.sent(context.step_run_id)],
    )
    return output_of(config, context.step_run_id)


register(
    StepType(
        name="publish_event",
        summary="Sends an event, or several, which may start other flows.",
        config_model=PublishEventConfig,
        handler=handle,
        mode=Mode.THREAD,
        pure=True,
    )
)
