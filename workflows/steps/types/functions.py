"""`function`: visits a flow in Python. `python`: performs a step that such a flow has asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from workflows.steps.context import StepContext
from workflows.steps.registry import Mode, StepConfig, StepType, register
from workflows.steps.tools import TOOLS

VISIT_MS = 3_600_000


class FunctionConfig(StepConfig):
    """The flow in Python, by its address, and the digest of its code. Published from the code, never written by hand.

    One visit takes an hour at most; a run has as many as it needs.
    """

    function: str = Field(pattern=r"^[\w.]+:[\w.]+$", max_length=300, description="module:name")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    is_async: bool = False


def _mode(config: Mapping[str, Any]) -> Mode:
    return Mode.ASYNC if config.get("is_async") else Mode.THREAD


def _visit(context: StepContext) -> Any:
    return TOOLS.visit_function(context)


def _perform_call(context: StepContext) -> Any:
    return TOOLS.perform_call(context)


register(
    StepType(
        name="function",
        summary="Visits a flow in Python, which says what comes next.",
        config_model=FunctionConfig,
        handler=_visit,
        mode=_mode,
        timeout_ms=VISIT_MS,
        pure=True,
    )
)
register(
    StepType(
        name="python",
        summary="Performs a step that a flow in Python has asked for (`step.run`).",
        config_model=StepConfig,
        handler=_perform_call,
        mode=Mode.THREAD,
        max_batch=20,
    )
)
