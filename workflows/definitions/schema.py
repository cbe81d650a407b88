"""The definition format as pydantic models. Semantics across steps are checked in `validate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from throttling.defaults import PRESETS
from throttling.limits import MAX_LIMIT, MAX_PERIOD_MS, Algorithm, ConcurrencyLimit, RateLimit
from throttling.policy import MAX_HEAD_START_S, DeclaredLimit, StepThrottling
from throttling.retry import BackoffKind, Jitter, RetryPolicy
from workflows.definitions.strict import KEY, Strict
from workflows.definitions.triggers import BatchSpec, DebounceSpec, RateLimitSpec, SingletonSpec, TriggerSpec
from workflows.duration import Duration
from workflows.edge.tags import MAX_TAGS
from workflows.errors import Category
from workflows.expressions.equality import MATCH_PATH

Key = Annotated[str, Field(pattern=KEY)]
FUNCTION = "function"
"""The type of the step that drives a flow in Python."""
CODE_TYPES = frozenset({FUNCTION, "python"})
"""Those that only a flow in Python has."""
MAX_TIMEOUT_MS = 2_000_000_000  # 23 days; longer waits are for `delay`, which holds nothing
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]


class RetrySpec(Strict):
    """`retry:` of a step: a preset, or single values that replace those of the step's type."""

    preset: str | None = None
    attempts: int | None = Field(None, ge=1, le=100, validation_alias=AliasChoices("attempts", "maxAttempts"))
    retries: int | None = Field(None, ge=0, le=99, description="attempts − 1")
    backoff: BackoffKind | None = None
    delay: Duration | None = None
    max_delay: Duration | None = None
    factor: float | None = Field(None, ge=1, le=100)
    jitter: bool | Jitter | None = None
    categories: dict[Category, RetrySpec] = Field(
        default_factory=dict, description="Policies of their own for categories of failure."
    )

    @model_validator(mode="before")
    @classmethod
    def _legacy_spelling(cls, value: Any) -> Any:
        """Accept `backoff: {type, delay}`, as the legacy format writes it."""
        if isinstance(value, dict) and isinstance(value.get("backoff"), dict):
            inner = dict(value["backoff"])
            value = {**value, "backoff": inner.pop("type", None), **{k: v for k, v in inner.items() if k not in value}}
        return value

    @field_validator("attempts", "retries", "factor", mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        """A boolean is no number (Python counts it as 0 or 1)."""
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is no number")
        return value

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        if value is not None and value not in PRESETS:
            raise ValueError(f"unknown preset {value!r}; there are {', '.join(PRESETS)}")
        return value

    @model_validator(mode="after")
    def _one_count(self) -> RetrySpec:
        if self.attempts is not None and self.retries is not None:
            raise ValueError("give attempts or retries (= attempts − 1), not both")
        if any(spec.categories for spec in self.categories.values()):
            raise ValueError("the policy of a category has no categories of its own")
        return self

    def policy(self, base: RetryPolicy) -> RetryPolicy:
        """The policy that results over that of the step's type. Raises ThrottlingError for impossible values."""
        start = PRESETS[self.preset] if self.preset else base
        attempts = self.retries + 1 if self.retries is not None else self.attempts
        jitter = (Jitter.PROPORTIONAL if self.jitter else Jitter.NONE) if isinstance(self.jitter, bool) else self.jitter
        changed = start.changed(
            max_attempts=attempts,
            backoff=self.backoff,
            delay_ms=self.delay,
            max_delay_ms=self.max_delay,
            factor=self.factor,
            jitter=jitter,
        )
        own = dict(changed.by_category)
        own.update((category.value, spec.policy(changed)) for category, spec in self.categories.items())
        return replace(changed, by_category=tuple(own.items()))


class RateSpec(Strict):
    """`rate:` of a limit."""

    limit: int = Field(ge=1, le=MAX_LIMIT, strict=True, validation_alias=AliasChoices("limit", "maxExecutions"))
    period: Duration = Field(ge=1, le=MAX_PERIOD_MS, validation_alias=AliasChoices("period", "perMilliseconds"))
    key: str | None = None
    algorithm: Algorithm = Algorithm.WINDOW
    burst: int | None = Field(None, ge=1, le=MAX_LIMIT, strict=True)

    @model_validator(mode="after")
    def _burst_belongs_to_gcra(self) -> RateSpec:
        if self.burst is not None and self.algorithm is not Algorithm.GCRA:
            raise ValueError("burst belongs to algorithm: gcra; a window has none")
        return self

    def bound(self) -> RateLimit:
        return RateLimit(max_executions=self.limit, per_ms=self.period, algorithm=self.algorithm, burst=self.burst or 1)


class ThrottlingSpec(Strict):
    """`throttling:` of a step."""

    concurrency: int | None = Field(None, ge=1, le=MAX_LIMIT, strict=True)
    rate: RateSpec | None = Field(None, validation_alias=AliasChoices("rate", "rateLimit"))
    limit: Slug | None = Field(None, description="The name of a shared limit.")
    key: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ThrottlingSpec:
        if self.limit and (self.concurrency or self.rate):
            raise ValueError("give either limit (a shared one) or concurrency and rate of its own")
        if not (self.limit or self.concurrency or self.rate or self.key):
            raise ValueError("give concurrency, rate, limit or key")
        return self

    def declared(self) -> StepThrottling:
        return StepThrottling(
            concurrency=self.concurrency,
            rate=self.rate.bound() if self.rate else None,
            key=self.key,
            rate_key=self.rate.key if self.rate else None,
            named=self.limit,
        )


class ConcurrencySpec(Strict):
    """An entry of `concurrency:` of a flow."""

    limit: int = Field(ge=1, le=MAX_LIMIT, strict=True)
    key: str | None = None
    scope: Literal["step", "run"] = "step"
    level: Literal["critical", "high", "normal", "low", "background"] | None = Field(
        None, description="Holds for runs whose priority is of this level."
    )

    def declared(self) -> DeclaredLimit:
        bound = ConcurrencyLimit(max_running=self.limit)
        return DeclaredLimit(bound=bound, key=self.key, runs=self.scope == "run", level=self.level or "")


class ThrottleSpec(Strict):
    """`throttle:` of a flow: starts of runs in a period; more of them queue."""

    limit: int = Field(ge=1, le=MAX_LIMIT, strict=True)
    period: Duration = Field(ge=1, le=MAX_PERIOD_MS)
    key: str | None = None
    burst: int | None = Field(None, ge=1, le=MAX_LIMIT, strict=True, description="Spaced evenly, with such a burst.")

    def declared(self) -> DeclaredLimit:
        algorithm = Algorithm.GCRA if self.burst else Algorithm.WINDOW
        bound = RateLimit(max_executions=self.limit, per_ms=self.period, algorithm=algorithm, burst=self.burst or 1)
        return DeclaredLimit(bound=bound, key=self.key, runs=True)


class TimeoutsSpec(Strict):
    """`timeouts:` of a flow."""

    start: Duration | None = None
    finish: Duration | None = None


class CancelSpec(Strict):
    """An entry of `cancel_on:` of a flow: an event that cancels its live runs.

    `match` is a path that must be equal in the event that started the run and in the one that arrives; `if` is CEL over
    `event` (that started the run) and `async` (that arrives). Without either, every live run is cancelled.
    """

    event: str = Field(min_length=1, max_length=200)
    match: str | None = Field(None, pattern=MATCH_PATH)
    condition: str | None = Field(None, alias="if")
    timeout: Duration | None = Field(None, ge=1, description="Only within so long after the run was made.")


class IdempotencySpec(Strict):
    """`idempotency:` of a flow: within the window, one value of `key` gives one run."""

    key: str = Field(min_length=1)
    window: Duration = Field(86_400_000, ge=1_000)
    force: str | None = Field(None, description="CEL: a run that is made whatever the key says, and takes it over.")


class StepSpec(Strict):
    """An entry of `steps:`."""

    id: Key
    type: str
    name: str | None = None
    needs: tuple[Key, ...] | None = None
    condition: str | None = Field(None, alias="if")
    critical: bool | None = None
    retry: RetrySpec | None = None
    timeout: Duration | None = Field(None, ge=1, le=MAX_TIMEOUT_MS)
    deadline: str | None = Field(None, description="CEL: a time; from then on the step is skipped (deadline_passed).")
    fallback_for: Key | None = Field(None, description="Runs only where that step failed, and gives its result.")
    on_failure: tuple[Key, ...] = Field((), description="Steps that undo this one where its run fails.")
    on_cancel: tuple[Key, ...] = Field((), description="Steps that undo this one where its run is cancelled.")
    throttling: ThrottlingSpec | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[StepSpec, ...] = Field((), description="Of map, batch, loop and group: what is run inside.")

    @field_validator("on_failure", "on_cancel", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _legacy_spelling(cls, value: Any) -> Any:
        """Accept `critical` and `throttlingOverride` (with `retry` in it) inside `config`: the legacy format."""
        if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
            return value
        step, config = dict(value), dict(value["config"])
        if "critical" in config:
            step.setdefault("critical", config.pop("critical"))
        if "throttlingOverride" in config:
            override = config.pop("throttlingOverride")
            if not isinstance(override, dict):
                raise ValueError("config.throttlingOverride must be an object")
            override = dict(override)
            if "retry" in override:
                step.setdefault("retry", override.pop("retry"))
            if override:
                step.setdefault("throttling", override)
        return {**step, "config": config}


class FlowSpec(Strict):
    """A flow definition."""

    flow: Slug = Field(validation_alias=AliasChoices("flow", "id"))
    name: str | None = Field(None, max_length=200)
    description: str = ""
    on: tuple[TriggerSpec, ...] = ()
    input_schema: dict[str, Any] | None = None
    priority: str | Annotated[int, Field(strict=True, ge=-MAX_HEAD_START_S, le=MAX_HEAD_START_S)] | None = None
    tags: tuple[str, ...] = Field(
        (), max_length=MAX_TAGS, description="Words by which its runs are found; they may hold templates."
    )
    concurrency: tuple[ConcurrencySpec, ...] = Field((), max_length=10)
    throttle: ThrottleSpec | None = None
    timeouts: TimeoutsSpec | None = None
    retry: RetrySpec | None = Field(None, description="For the steps that have no retry of their own.")
    cancel_on: tuple[CancelSpec, ...] = Field((), max_length=10)
    idempotency: IdempotencySpec | None = None
    debounce: DebounceSpec | None = None
    batch: BatchSpec | None = Field(None, validation_alias=AliasChoices("batch", "batchEvents"))
    singleton: SingletonSpec | None = None
    rate_limit: RateLimitSpec | None = Field(None, validation_alias=AliasChoices("rate_limit", "rateLimit"))
    on_failure: Slug | None = Field(None, description="A flow that gets error, event and run of a failed run.")
    alert_on_failure: bool = False
    steps: tuple[StepSpec, ...] = Field(min_length=1, max_length=1_000)
    output: Any = None

    @field_validator("idempotency", mode="before")
    @classmethod
    def _only_a_key(cls, value: Any) -> Any:
        return {"key": value} if isinstance(value, str) else value

    @field_validator("singleton", mode="before")
    @classmethod
    def _only_a_mode(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _one_tag_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("on", "cancel_on", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("concurrency", mode="before")
    @classmethod
    def _one_limit_or_many(cls, value: Any) -> Any:
        """A plain number, one limit, or several."""
        if isinstance(value, int) and not isinstance(value, bool):
            return [{"limit": value}]
        return [value] if isinstance(value, dict) else value

    @property
    def is_code(self) -> bool:
        """Whether a Python function says what its steps are."""
        return any(step.type == FUNCTION for step in self.steps)

    @property
    def limits(self) -> tuple[DeclaredLimit, ...]:
        """The limits that hold for the whole flow."""
        declared = [limit.declared() for limit in self.concurrency]
        return (*declared, self.throttle.declared()) if self.throttle else tuple(declared)
