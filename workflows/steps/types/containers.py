"""`map`, `batch`, `loop` and `group`: they run the steps in them (`steps:`), for each item, in rounds, or once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from workflows.duration import Duration
from workflows.steps.context import StepContext
from workflows.steps.outcome import FanOut
from workflows.steps.registry import Mode, StepConfig, StepType, register

MAX_ITEMS = 100_000


class _OverItems(StepConfig):
    items: list[Any] = Field(max_length=MAX_ITEMS)
    on_failure: Literal["stop", "continue"] = "stop"
    max_failures: int | None = Field(None, ge=0)
    collect: bool = True

    @model_validator(mode="after")
    def _one_policy(self) -> _OverItems:
        if self.max_failures is not None and self.on_failure == "continue":
            raise ValueError("give either max_failures or on_failure: continue, which sets no bound")
        return self

    @property
    def bound(self) -> int | None:
        return None if self.on_failure == "continue" else self.max_failures or 0


class MapConfig(_OverItems):
    """Runs the steps in it for each of `items` (`${ item }`, `${ index }`), at most `parallelism` items at a time.

    Output: `total`, `successful`, `failed`, `results` (in the order of the items: the output of the last step in it,
    null for an item that failed) and `errors` (the first 100). One failed item stops the rest and fails the step,
    unless `max_failures` allows for more, or `on_failure: continue` for any number. `collect: false` leaves the
    results out. After a failure for lack of resources it goes on with half the parallelism.
    """

    parallelism: int = Field(10, ge=1, le=1_000)


class BatchConfig(_OverItems):
    """Runs the steps in it for parts of `items` of `size` elements each (`${ item }` is such a list), with a `pause`
    between them. Output and failures as of `map`, counted by elements.

    A part that fails for lack of resources is halved, and both halves are tried.
    """

    size: int = Field(ge=1, le=10_000)
    pause: Duration = 0
    parallelism: int = Field(1, ge=1, le=1_000)


class LoopConfig(StepConfig):
    """Runs the steps in it again and again: `while` is asked before each round, `until` after it (CEL).

    They see the outputs of the last round's steps, `item` (the output of the last one of them; null before the first
    round) and `index` (rounds so far); so do the steps. A field that is not there is an error: before the first round
    no step in the loop has an output (`index == 0 || …`). After `max_iterations` rounds the step fails, or with
    `on_limit: continue` ends. Output: as of `map`, one result for each round.
    """

    while_: str | None = Field(None, alias="while", min_length=1)
    until: str | None = Field(None, min_length=1)
    max_iterations: int = Field(100, ge=1, le=10_000)
    on_limit: Literal["fail", "continue"] = "fail"
    pause: Duration = 0
    collect: bool = True

    @model_validator(mode="after")
    def _one(self) -> LoopConfig:
        if (self.while_ is None) == (self.until is None):
            raise ValueError("give either while or until")
        return self


class GroupConfig(StepConfig):
    """Runs the steps in it once, as one step of the flow. Its output is that of the last of them."""


def handle_map(context: StepContext) -> FanOut:
    config: MapConfig = context.config
    return FanOut(
        items=config.items,
        parallelism=config.parallelism,
        max_failures=config.bound,
        options={"collect": config.collect},
    )


def handle_batch(context: StepContext) -> FanOut:
    config: BatchConfig = context.config
    parts = [config.items[first : first + config.size] for first in range(0, len(config.items), config.size)]
    return FanOut(
        items=list(parts),
        sizes=[len(part) for part in parts],
        parallelism=config.parallelism,
        max_failures=config.bound,
        pause_s=config.pause / 1000,
        options={"collect": config.collect},
    )


def handle_loop(context: StepContext) -> FanOut:
    config: LoopConfig = context.config
    options: dict[str, Any] = {
        "while": config.while_,
        "until": config.until,
        "max_iterations": config.max_iterations,
        "on_limit": config.on_limit,
        "collect": config.collect,
    }
    seen = {**context.scope, "item": None, "index": 0}
    begins = config.while_ is None or context.expression(config.while_).holds(seen)
    return FanOut(items=[None] if begins else [], pause_s=config.pause / 1000, options=options)


def handle_group(context: StepContext) -> FanOut:
    return FanOut(items=[None])


def _conditions(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("while", "until"):
        if isinstance(config.get(name), str):
            yield name, config[name]


register(
    StepType(
        name="map",
        summary="Runs the steps in it for each item of a list.",
        config_model=MapConfig,
        handler=handle_map,
        mode=Mode.INLINE,
        pure=True,
        container=True,
    )
)
register(
    StepType(
        name="batch",
        summary="Runs the steps in it for parts of a list, with pauses.",
        config_model=BatchConfig,
        handler=handle_batch,
        mode=Mode.INLINE,
        pure=True,
        container=True,
    )
)
register(
    StepType(
        name="loop",
        summary="Runs the steps in it while a condition holds.",
        config_model=LoopConfig,
        handler=handle_loop,
        mode=Mode.INLINE,
        pure=True,
        container=True,
        raw_fields=frozenset({"while", "until"}),
        expressions=_conditions,
        expression_names=frozenset({"item", "index"}),
    )
)
register(
    StepType(
        name="group",
        summary="Runs the steps in it once, as one step.",
        config_model=GroupConfig,
        handler=handle_group,
        mode=Mode.INLINE,
        pure=True,
        container=True,
    )
)
