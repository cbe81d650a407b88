"""`wait_for_event`, `wait_for_callback`, `wait_for_approval`: wait for something from outside, holding nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from workflows.duration import Duration
from workflows.errors import ConfigurationFailure
from workflows.expressions.equality import MATCH_PATH, MISSING, NO_TERM, Term, hash_of, term_of, value_at
from workflows.steps.callback_urls import event_name, token_of
from workflows.steps.context import StepContext
from workflows.steps.outcome import WaitFor
from workflows.steps.registry import Mode, StepConfig, StepType, register

MAX_DETAILS_CHARACTERS = 64 * 1024
WEEK_MS = 7 * 86_400_000
OnTimeout = Literal["continue", "fail"]


class WaitForEventConfig(StepConfig):
    """Waits for an event by name (or `prefix/*`); its output is the event: `id`, `name`, `data`, `user`, `ts`.

    `match` is a path that must be equal in the event that started the run and in the one that comes; `if` is CEL over
    `event` (that started the run) and `async` (that comes). After `timeout` the output is null, or the step fails
    (`on_timeout: fail`). Events count from when the step was ready; `lookback` lets earlier ones count too.
    """

    event: str = Field(min_length=1, max_length=200)
    match: str | None = Field(None, pattern=MATCH_PATH, max_length=200)
    condition: str | None = Field(None, alias="if", min_length=1)
    timeout: Duration = Field(WEEK_MS, ge=1)
    lookback: Duration = 0
    on_timeout: OnTimeout = "continue"


def _conditions(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(config.get("if"), str):
        yield "if", config["if"]


def wait_for_event(context: StepContext) -> WaitFor:
    config: WaitForEventConfig = context.config
    term = NO_TERM
    if config.match:
        value = value_at(context.scope["event"], config.match)
        if value is MISSING:
            raise ConfigurationFailure(f"match: the event that started the run has no {config.match}.")
        term = Term(config.match, hash_of(value))
    elif config.condition:
        term = term_of(config.condition, context.scope)
    return WaitFor(
        kind="event",
        timeout_s=config.timeout / 1000,
        event_name=config.event,
        match_path=term.path,
        value_hash=term.value_hash,
        condition=config.condition or "",
        lookback_s=config.lookback / 1000,
        options={"on_timeout": config.on_timeout},
    )


class WaitForCallbackConfig(StepConfig):
    """Waits until its address is called, once. Steps before it hand the address out as `${ callbacks['its-id'] }`.

    The output is the JSON body of the call. A call that comes before the step is reached counts too.
    """

    timeout: Duration = Field(WEEK_MS, ge=1)
    on_timeout: OnTimeout = "continue"


def wait_for_callback(context: StepContext) -> WaitFor:
    config: WaitForCallbackConfig = context.config
    return WaitFor(
        kind="event",
        timeout_s=config.timeout / 1000,
        event_name=event_name(token_of(context.run_id, context.key, context.path)),
        since_run=True,
        options={"on_timeout": config.on_timeout, "callback": True},
    )


class WaitForApprovalConfig(StepConfig):
    """Waits for a person's decision, on the page of approvals or by API. Output: `approved`, `by`, `comment`, `at`.

    `approvers` (`user:anna`, `group:finance`, `key:deploy`) may decide; without any, everybody who may change runs. An
    operator who is none of them has to say so (`asOperator` in the output). They are told by the system events
    `headrace/approval.requested` and, each `remind`, `headrace/approval.reminder`. After `timeout` the output is
    `{approved: false, timedOut: true}`, or the step fails.
    """

    title: str = Field("", max_length=200)
    message: str = Field("", max_length=4_000)
    details: Any = None
    approvers: list[str] = Field(default_factory=list, max_length=100)
    timeout: Duration = Field(WEEK_MS, ge=1)
    remind: Duration | None = Field(None, ge=60_000)
    on_timeout: OnTimeout = "continue"
    on_reject: Literal["continue", "fail"] = "continue"

    @field_validator("details")
    @classmethod
    def _not_too_large(cls, value: Any) -> Any:
        if len(json.dumps(value, default=str)) > MAX_DETAILS_CHARACTERS:
            raise ValueError(f"details have more than {MAX_DETAILS_CHARACTERS:,} characters: name where to find them")
        return value

    @model_validator(mode="after")
    def _known_kinds(self) -> WaitForApprovalConfig:
        for approver in self.approvers:
            kind, _, name = approver.partition(":")
            if "${" not in approver and (kind not in {"user", "group", "key"} or not name):
                raise ValueError(f"approvers: {approver!r} is no user:…, group:… or key:…")
        return self


def wait_for_approval(context: StepContext) -> WaitFor:
    config: WaitForApprovalConfig = context.config
    return WaitFor(
        kind="approval",
        timeout_s=config.timeout / 1000,
        remind_s=0.0,
        options={
            "title": config.title or f"{context.flow}: {context.key}",
            "message": config.message,
            "details": config.details,
            "approvers": config.approvers,
            "remind_ms": config.remind,
            "on_timeout": config.on_timeout,
            "on_reject": config.on_reject,
        },
    )


register(
    StepType(
        name="wait_for_event",
        summary="Waits for an event, holding neither a worker nor a permit.",
        config_model=WaitForEventConfig,
        handler=wait_for_event,
        mode=Mode.INLINE,
        pure=True,
        raw_fields=frozenset({"if", "match"}),
        expressions=_conditions,
        expression_names=frozenset({"async"}),
    )
)
register(
    StepType(
        name="wait_for_callback",
        summary="Waits until its one-time address is called.",
        config_model=WaitForCallbackConfig,
        handler=wait_for_callback,
        mode=Mode.INLINE,
        pure=True,
    )
)
register(
    StepType(
        name="wait_for_approval",
        summary="Waits until a person approves or rejects.",
        config_model=WaitForApprovalConfig,
        handler=wait_for_approval,
        mode=Mode.INLINE,
        pure=True,
    )
)
