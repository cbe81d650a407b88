"""What a handler's visit can end in. Handlers return these (or a plain value); `transitions` alone writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from workflows.errors import Category


@dataclass(frozen=True, kw_only=True)
class StepError:
    """A failure as it is stored with the attempt."""

    category: Category
    name: str
    message: str
    traceback: str = ""
    class_path: str = ""
    """Where the class of the exception is defined, as `module.Class`; empty where there was no exception."""

    def as_json(self) -> dict[str, str]:
        return {
            "category": self.category.value,
            "name": self.name,
            "message": self.message,
            "traceback": self.traceback,
            **({"classPath": self.class_path} if self.class_path else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The step is done. `not_taken`: successors whose branch was not chosen."""

    output: Any = None
    not_taken: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The step failed for good."""

    error: StepError


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The try failed; another follows after `delay_s`. A wait `by_server` costs no attempt."""

    error: StepError
    delay_s: float
    by_server: bool = False


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """The step sleeps and is visited again after `seconds`."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class WaitFor:
    """The step waits for something to happen, holding neither a worker nor a permit. What happens ends the step.

    `event`: an event of a name (or pattern) at whose `match_path` a value with this hash stands, and for which the CEL
    `condition` holds; `since_run`: it may have come at any time since the run was made, else since the step was ready,
    less `lookback_s`. `approval`: a person's decision. `run`: the end of the run `child_id`.
    """

    kind: Literal["event", "approval", "run"]
    timeout_s: float | None = None
    event_name: str = ""
    match_path: str = ""
    value_hash: str = ""
    condition: str = ""
    lookback_s: float = 0.0
    since_run: bool = False
    child_id: UUID | None = None
    remind_s: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """What its end depends on, as JSON: `on_timeout`, …"""


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """The step runs the steps in it for each item, `parallelism` items at a time, and waits for them.

    An item of several elements (`sizes`) is a part of a batch. `max_failures`: one more stops it; None: none does.
    `pause_s`: between the end of an item and the start of the next.
    """

    items: list[Any]
    sizes: list[int] | None = None
    parallelism: int = 1
    max_failures: int | None = 0
    pause_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Suspended:
    """The visit of a function ends, and another begins once steps that it has asked for have ended.

    `awaited`: those steps. `any_of`: one of them is enough; else all have to end.
    """

    awaited: tuple[UUID, ...] = ()
    any_of: bool = False


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """The step's condition is false, or everything it needs was skipped."""

    reason: str = "condition"
    """`condition`, `needs_skipped`, `deadline_passed`, or a word of the step type."""


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """The run was cancelled while the step ran, and the handler has stopped."""


@dataclass(frozen=True, kw_only=True)
class HandBack:
    """The worker could not start or finish the step; it becomes ready again, and no attempt is spent.

    `after_s`: seconds to wait first, where no other worker could perform it now either.
    """

    after_s: float | None = None


Outcome = Completed | Failed | Retry | Sleep | WaitFor | FanOut | Suspended | Skipped | Cancelled | HandBack
