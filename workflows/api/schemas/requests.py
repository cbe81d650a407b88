"""The bodies of requests."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, Discriminator, Field, StrictInt, StrictStr, Tag, model_validator
from pydantic.alias_generators import to_camel

from workflows.duration import parse_ms
from workflows.edge.tags import FORM
from workflows.errors import InvalidInput
from workflows.payload import fault


def milliseconds(value: int | str, what: str) -> int:
    """A duration of a request: whole milliseconds, or text such as 5m. Raises InvalidInput."""
    try:
        return parse_ms(value)
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}") from None


class Body(Schema):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="wrap")
    @classmethod
    def _storable(cls, value: Any, handler: Any) -> Any:
        """Every text can be stored. (The run's own data is checked, and refused, as a whole.)"""
        made = handler(value)
        texts = {name: getattr(made, name) for name in cls.model_fields if name not in {"trigger_data", "input"}}
        if found := fault({name: text for name, text in texts.items() if isinstance(text, str | dict | list)}):
            raise ValueError(found)
        return made


class RunIn(Body):
    """How to start a run."""

    trigger_data: Any = Field(default=None, description="The run's input; also `event.data`. At most 512 KiB.")
    priority: StrictInt | StrictStr | None = Field(
        None, description="1 (first) … 10 (last), or critical, high, normal, low, background."
    )
    delay: StrictInt | StrictStr | None = Field(None, description="Milliseconds, or text such as 5m; a year at most.")
    run_at: dt.datetime | None = Field(None, description="When it starts, instead of a delay; with its time zone.")
    idempotency_key: str = Field("", max_length=200, description="Within 24 hours the same key gives the same run.")
    force: bool = Field(False, description="Make a run whatever idempotency keys say; it takes them over.")
    user_id: str = Field("", max_length=200)
    tags: list[StrictStr] = Field(
        default_factory=list,
        description=f"Words by which the run is found, besides those of its flow: {FORM}; 20 at most.",
    )


ONE, MANY = "(one)", "(many)"
"""What pydantic calls the two forms of a body in the paths of its errors."""


def _form(body: Any) -> str:
    return MANY if isinstance(body, list) else ONE


RunsIn = Annotated[
    Annotated[RunIn, Tag(ONE)] | Annotated[list[RunIn], Tag(MANY), Field(min_length=1, max_length=5_000)],
    Discriminator(_form),
]
"""One run, or an array of at most 5,000 of a flow, of which all are made or none."""


class CancelIn(Body):
    reason: str = Field("", max_length=1_000)


class RepeatIn(Body):
    """How to repeat a run. Without `input`, that of the run counts; `null` is an input too."""

    mode: Literal["start", "resume"] = Field("start", description="`resume` keeps the outcomes of what was done.")
    version: Literal["current", "same"] | None = Field(
        None, description="Of the flow: current (the default from the start) or the run's own (that of a resume)."
    )
    input: Any = None
    force: bool = Field(False, description="Repair it although it was repaired already.")
    dry_run: bool = False


class ForkIn(Body):
    """From which steps to run again. Everything that needs them runs too, the rest is taken over."""

    from_steps: list[str] = Field(min_length=1, max_length=1_000)
    version: Literal["current", "same"] = "same"
    input: Any = None
    dry_run: bool = False


class BulkIn(Body):
    """What to do it to, and how fast. `filter` has the names of the list's query."""

    filter: dict[str, str] = Field(default_factory=dict)
    all: bool = Field(False, description="Without a filter, say so: everything.")
    per_second: float | None = Field(None, description="At most so many a second (more than 0, at most 1,000).")
    dry_run: bool = Field(False, description="Only say how many it would be.")


class BulkCancelIn(BulkIn):
    reason: str = Field("", max_length=1_000)


class BulkReplayIn(BulkIn):
    mode: Literal["start", "resume"] = "start"
    version: Literal["current", "same"] | None = None
    force: bool = Field(False, description="Repair those too that were repaired already.")
