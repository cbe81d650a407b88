"""`sandbox_sync`, `sandbox_async` and `code_execution`: Python in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from workflows.duration import Duration
from workflows.steps import sandbox
from workflows.steps.context import StepContext
from workflows.steps.registry import COMPUTE_QUEUE, DETACHED_LANE, Mode, StepConfig, StepType, register


class SandboxConfig(StepConfig):
    """Python `code`; what it returns (or its last expression) is the output. It sees `input`, `event`, `steps`, and may
    call `progress(percent, message)` and `delay('2s')`."""

    code: str = Field(min_length=1, max_length=sandbox.MAX_CODE_CHARACTERS)
    input: Any = None
    timeout: Duration | None = Field(
        None,
        ge=1,
        le=sandbox.MAX_TIMEOUT_MS,
        description="Of the code itself, sleeps included, an hour at most. Else the step's `timeout`, else 30 s.",
    )
    memory_mb: int = Field(128, ge=1, le=2_048)


class CodeExecutionConfig(SandboxConfig):
    """As `sandbox_sync`, and the output is `{result, printed}`."""

    language: str = Field("python", pattern=r"^python$")


def _run(context: StepContext) -> sandbox.Result:
    config: SandboxConfig = context.config
    scope = dict(context.scope)
    if config.input is not None:
        scope["input"] = config.input
    return sandbox.run(
        config.code,
        sandbox.variables(scope, context.attempt),
        timeout_s=sandbox.timeout_s(context, config.timeout),
        memory_bytes=config.memory_mb * 1024 * 1024,
        name=f"{context.key}.py",
        context=context,
    )


def handle_sandbox(context: StepContext) -> Any:
    result = _run(context)
    return result.outcome(result.value)


def handle_code_execution(context: StepContext) -> Any:
    result = _run(context)
    return result.outcome({"result": result.value, "printed": result.printed})


def _whole_scope(config: Mapping[str, Any]) -> bool:
    return "steps" in str(config.get("code", ""))


for name, summary, model, handler, detached in (
    ("sandbox_sync", "Runs Python in the sandbox.", SandboxConfig, handle_sandbox, False),
    ("sandbox_async", "Runs Python in the sandbox; its Celery task ends at once.", SandboxConfig, handle_sandbox, True),
    (
        "code_execution",
        "Runs Python in the sandbox and keeps what it prints.",
        CodeExecutionConfig,
        handle_code_execution,
        False,
    ),
):
    register(
        StepType(
            name=name,
            summary=summary,
            config_model=model,
            handler=handler,
            mode=Mode.THREAD,
            pure=True,
            queue=COMPUTE_QUEUE,
            lane=DETACHED_LANE if detached else "",
            max_batch=1,
            timeout_ms=sandbox.DEFAULT_TIMEOUT_MS + 5_000,
            detached=detached,
            raw_fields=frozenset({"code"}),
            whole_scope=_whole_scope,
        )
    )
