"""A run as it is recorded: what its code needs to go through its journal again, as an object and as JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from workflows.errors import InvalidInput
from workflows.functions import payloads
from workflows.functions.journal import JournalRow

FORMAT = 1


class StepRecord(NamedTuple):
    """A step of a journal."""

    id: UUID
    key: str
    type: str
    position: int
    status: str
    attempt: int
    output: Any
    error: Any
    ended_at: dt.datetime | None

    @classmethod
    def of(cls, row: JournalRow) -> StepRecord:
        """A copy of a row."""
        return cls(
            row.id, row.key, row.type, row.position, row.status, row.attempt, row.output, row.error, row.ended_at
        )


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run of a flow in Python. `scope`: the `event`, `run` and `org` of it, as expressions read them."""

    id: UUID
    flow: str
    version: int
    digest: str
    """Of the code that the version was published from."""
    status: str
    attempt: int
    """Of the function."""
    created_at: dt.datetime
    scope: Mapping[str, Any]
    steps: tuple[StepRecord, ...]
    output: Any = None


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class _Step(_Camel):
    id: UUID
    key: str = Field(min_length=1)
    type: str = Field(min_length=1)
    position: int = Field(ge=0)
    status: str
    attempt: int = Field(1, ge=0)
    output: Any = None
    error: Any = None
    ended_at: AwareDatetime | None = None


class _Run(_Camel):
    format: int
    id: UUID
    flow: str
    version: int = 0
    digest: str = ""
    status: str
    attempt: int = Field(1, ge=1)
    created_at: AwareDatetime
    event: dict[str, Any]
    run: dict[str, Any] = Field(default_factory=dict)
    org: dict[str, Any] = Field(default_factory=dict)
    steps: list[_Step] = Field(max_length=20_000)
    output: Any = None


def to_json(run: RecordedRun) -> dict[str, Any]:
    """The run as plain JSON (`manage.py runs export-journal`)."""
    stored = _Run(
        format=FORMAT,
        id=run.id,
        flow=run.flow,
        version=run.version,
        digest=run.digest,
        status=run.status,
        attempt=run.attempt,
        created_at=run.created_at,
        event=dict(run.scope["event"]),
        run=dict(run.scope["run"]),
        org=dict(run.scope["org"]),
        steps=[_Step(**step._asdict()) for step in run.steps],
        output=run.output,
    )
    return stored.model_dump(mode="json", by_alias=True)


def from_json(value: Any, *, what: str = "The journal") -> RecordedRun:
    """The run of an export. Raises InvalidInput with what is wrong with it."""
    try:
        found = _Run.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(
            f"{what} is no exported journal ({payloads.problems(error)}); make one with: "
            "manage.py runs export-journal RUN"
        ) from None
    if found.format != FORMAT:
        raise InvalidInput(f"{what} has the format {found.format}; this release reads {FORMAT}. Export the run again.")
    if missing := {"id", "name", "data", "user", "ts"} - found.event.keys():
        raise InvalidInput(f"{what} has an event without {', '.join(sorted(missing))}. Export the run again.")
    created_at = found.run.get("createdAt") or found.created_at.isoformat()
    return RecordedRun(
        id=found.id,
        flow=found.flow,
        version=found.version,
        digest=found.digest,
        status=found.status,
        attempt=found.attempt,
        created_at=found.created_at,
        scope={"event": found.event, "run": {**found.run, "createdAt": created_at}, "org": found.org},
        steps=tuple(StepRecord(**{name: getattr(step, name) for name in StepRecord._fields}) for step in found.steps),
        output=found.output,
    )
