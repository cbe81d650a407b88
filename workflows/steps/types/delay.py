"""`delay`: waits, holding neither a worker nor a permit."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field, model_validator

from workflows.duration import Duration
from workflows.steps.context import StepContext
from workflows.steps.outcome import Outcome, Sleep
from workflows.steps.registry import Mode, StepConfig, StepType, register


class DelayConfig(StepConfig):
    """Waits `for` a duration, or `until` a time; a time that has passed is no wait."""

    duration: Duration | None = Field(None, alias="for")
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one(self) -> DelayConfig:
        if (self.duration is None) == (self.until is None):
            raise ValueError("give either for (a duration) or until (a time with its zone)")
        return self


def handle(context: StepContext) -> Outcome | dict[str, Any]:
    config: DelayConfig = context.config
    if context.wake_seq == 0:
        if config.until is not None:
            seconds = (config.until - context.now()).total_seconds()
        else:
            seconds = (config.duration or 0) / 1000
        if seconds > 0:
            return Sleep(seconds=seconds)
    return {"wokeAt": context.now().isoformat()}


register(
    StepType(
        name="delay",
        summary="Waits, holding neither a worker nor a permit.",
        config_model=DelayConfig,
        handler=handle,
        mode=Mode.INLINE,
        pure=True,
    )
)
