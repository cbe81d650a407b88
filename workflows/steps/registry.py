"""The step types. A new one is a file here with a config model, a handler and one `register` line."""

from __future__ import annotations

import enum
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict

IO_QUEUE = "headrace.io"
COMPUTE_QUEUE = "headrace.compute"
QUEUES = (IO_QUEUE, COMPUTE_QUEUE)
DETACHED_LANE = f"{COMPUTE_QUEUE}.detached"
SCRIPTS_LANE = f"{IO_QUEUE}.scripts"
WATCHED_LANE = f"{IO_QUEUE}.watched"
TASKS_LANE = f"{IO_QUEUE}.tasks"
LANES = (*QUEUES, DETACHED_LANE, SCRIPTS_LANE, WATCHED_LANE, TASKS_LANE)
"""What a queue's permits are counted by: a queue, or a part of its steps that needs places of another kind."""
TIMED_LANES = frozenset({COMPUTE_QUEUE, DETACHED_LANE, SCRIPTS_LANE})
"""Lanes of steps that compute: organizations share their time, and none holds all places."""


class StepConfig(BaseModel):
    """The base of every step type's configuration: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mode(enum.Enum):
    """Where a handler runs: in the visiting thread, in the engine's thread pool, or on the asyncio loop."""

    INLINE = "inline"
    THREAD = "thread"
    ASYNC = "async"


def _never(_: Mapping[str, Any]) -> bool:
    return False


def _no_expressions(_: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return ()


@dataclass(frozen=True, kw_only=True)
class StepType:
    """A kind of step.

    `raw_fields` are not templates; `expressions` lists (path, CEL) within them; `whole_scope` says whether the
    handler wants every output of the run; `detached` lets the Celery task end before the handler does.
    """

    name: str
    summary: str
    config_model: type[StepConfig]
    handler: Callable[..., Any]
    mode: Mode | Callable[[Mapping[str, Any]], Mode] = Mode.THREAD
    queue: str = IO_QUEUE
    lane: str | Callable[[Mapping[str, Any]], str] = ""
    """Where its permits are counted by themselves, one of LANES (by its config); empty: with those of its queue."""
    max_batch: int = 50
    timeout_ms: int = 60_000
    outbound: bool = False
    detached: bool = False
    watches: bool = False
    """Its handler only waits for work that is done elsewhere: it takes no slot of the worker, and does not cause the
    worker's loss."""
    pure: bool = False
    """It changes nothing outside of this database: no crash of Postgres keeps the effect and loses the claim."""
    raw_fields: frozenset[str] = frozenset()
    expressions: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]] = _no_expressions
    expression_names: frozenset[str] = frozenset()
    """What its expressions may read beside the usual names."""
    whole_scope: Callable[[Mapping[str, Any]], bool] = _never
    container: bool = False
    """Has steps of its own (`steps:`), which its expressions may read."""
    after_record: Callable[[UUID], None] | None = None
    """Called with the id of each step run whose end this process has recorded, after the commit. It must not wait."""

    @property
    def task_name(self) -> str:
        """The name of its Celery task."""
        return f"workflows.steps.{self.name}"

    def mode_of(self, config: Mapping[str, Any]) -> Mode:
        return self.mode if isinstance(self.mode, Mode) else self.mode(config)

    def lane_of(self, config: Mapping[str, Any]) -> str:
        return (self.lane if isinstance(self.lane, str) else self.lane(config)) or self.queue

    def split_config(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """The part of the config that is a template, and the CEL expressions of the rest with their paths."""
        template = {name: value for name, value in config.items() if name not in self.raw_fields}
        return template, [*self.expressions(config)]


REGISTRY: dict[str, StepType] = {}


def register(step_type: StepType) -> StepType:
    """Add a type. Raises ValueError where the name is taken."""
    if step_type.name in REGISTRY:
        raise ValueError(f"the step type {step_type.name!r} is registered twice")
    REGISTRY[step_type.name] = step_type
    return step_type


def pure_types() -> list[str]:
    """The names of the types that may be performed twice without a trace."""
    return [step_type.name for step_type in REGISTRY.values() if step_type.pure]


def load_types() -> None:
    """Import every module of `types`, and those that HEADRACE_STEP_MODULES names: each registers its types.

    Raises ImproperlyConfigured for a module that can't be imported.
    """
    package = importlib.import_module("workflows.steps.types")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for name in os.environ.get("HEADRACE_STEP_MODULES", "").split(","):
        if name.strip():
            try:
                importlib.import_module(name.strip())
            except ImportError as error:
                raise ImproperlyConfigured(
                    f"HEADRACE_STEP_MODULES: {name.strip()} can't be imported: {error}"
                ) from None
