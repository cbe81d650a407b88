"""`invoke_flow`: runs another flow, and waits for its result or goes on at once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workflows.duration import Duration
from workflows.steps.context import StepContext
from workflows.steps.outcome import WaitFor
from workflows.steps.registry import Mode, StepConfig, StepType, register
from workflows.steps.tools import TOOLS


class InvokeFlowConfig(StepConfig):
    """Starts one run of `flow` with `data`. With `wait` (the default) its output becomes that of the step.

    `on_failure`: what a run that fails or is cancelled means: the step fails (`fail`), or its output is null
    (`continue`). `on_cancel`: what becomes of the run when this one is cancelled. `timeout` bounds the wait only.
    Without `wait` the output is `{runId}`, and the run goes its own way.
    """

    flow: str = Field(min_length=1, max_length=100)
    data: Any = None
    wait: bool = True
    timeout: Duration | None = Field(None, ge=1)
    on_timeout: Literal["continue", "fail"] = "fail"
    on_failure: Literal["fail", "continue"] = "fail"
    on_cancel: Literal["cancel", "abandon"] | None = None
    priority: str | int | None = None


def handle(context: StepContext) -> WaitFor | dict[str, str]:
    config: InvokeFlowConfig = context.config
    policy = config.on_cancel or ("cancel" if config.wait else "abandon")
    child = TOOLS.invoke(
        context.org_id,
        config.flow,
        config.data,
        parent=context.run_id,
        on_parent_cancel=policy,
        once=f"invoke:{context.step_run_id}",
        priority=config.priority,
        awaited=config.wait,
    )
    if not config.wait:
        return {"runId": str(child)}
    return WaitFor(
        kind="run",
        timeout_s=config.timeout / 1000 if config.timeout else None,
        child_id=child,
        options={"on_timeout": config.on_timeout, "on_failure": config.on_failure},
    )


register(
    StepType(
        name="invoke_flow",
        summary="Runs another flow, and waits for its result or goes on at once.",
        config_model=InvokeFlowConfig,
        handler=handle,
        mode=Mode.THREAD,
        pure=True,
    )
)
