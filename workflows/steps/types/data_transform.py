"""`data_transform`: reshapes data by a CEL `expression` or a sandboxed Python `script`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from workflows.steps import sandbox
from workflows.steps.context import StepContext
from workflows.steps.registry import SCRIPTS_LANE, Mode, StepConfig, StepType, register


class DataTransformConfig(StepConfig):
    """Exactly one of `expression` and `script`; `input` replaces the run's input within it. A script may take 30 s, or
    as long as the step's `timeout` says (an hour at most)."""

    expression: str | None = Field(None, min_length=1)
    script: str | None = Field(None, min_length=1, max_length=sandbox.MAX_CODE_CHARACTERS)
    input: Any = None

    @model_validator(mode="after")
    def _one(self) -> DataTransformConfig:
        if (self.expression is None) == (self.script is None):
            raise ValueError("give either expression (CEL) or script (Python)")
        return self


def expressions(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(config.get("expression"), str):
        yield "expression", config["expression"]


def handle(context: StepContext) -> Any:
    config: DataTransformConfig = context.config
    scope = dict(context.scope)
    if config.input is not None:
        scope["input"] = config.input
    if config.expression is not None:
        return context.expression(config.expression).evaluate(scope)
    result = sandbox.run(
        config.script or "",
        sandbox.variables(scope, context.attempt),
        timeout_s=sandbox.timeout_s(context),
        name=f"{context.key}.py",
        context=context,
    )
    return result.outcome(result.value)


register(
    StepType(
        name="data_transform",
        summary="Reshapes data by a CEL `expression` or a sandboxed Python `script`.",
        config_model=DataTransformConfig,
        handler=handle,
        mode=lambda config: Mode.THREAD if "script" in config else Mode.INLINE,
        pure=True,
        lane=lambda config: SCRIPTS_LANE if "script" in config else "",
        raw_fields=frozenset({"expression", "script"}),
        expressions=expressions,
        whole_scope=lambda config: "steps" in str(config.get("script", "")),
    )
)
