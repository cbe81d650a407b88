"""The messages between the engine's stages: ready steps, claims, step results, and what recording them changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.state import needs
from workflows.steps.outcome import Outcome, StepError


class WantsToStart(Protocol):
    """A step that is ready or claimed: what its limits are found by."""

    @property
    def id(self) -> UUID: ...
    @property
    def run_id(self) -> UUID: ...
    @property
    def version_id(self) -> UUID: ...
    @property
    def key(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def priority(self) -> int: ...


class NewStepRow(WantsToStart, Protocol):
    """A row of a step that a statement has inserted."""

    @property
    def type(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def needs_total(self) -> int: ...
    @property
    def needs_met(self) -> int: ...
    @property
    def needs_prepare(self) -> bool: ...


class ReadyRow(NewStepRow, Protocol):
    """A row of a step that is ready."""

    @property
    def path(self) -> str: ...
    @property
    def losses(self) -> int: ...


class ClaimRow(WantsToStart, Protocol):
    """A row of a step that is claimed, or that ends while no worker has it."""

    @property
    def org_id(self) -> UUID: ...
    @property
    def path(self) -> str: ...
    @property
    def index(self) -> int | None: ...
    @property
    def container_id(self) -> UUID | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def wake_seq(self) -> int: ...
    @property
    def losses(self) -> int: ...
    @property
    def server_retry_waits(self) -> int: ...
    @property
    def timeout_ms(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def queued_s(self) -> float: ...
    @property
    def needs_met(self) -> int: ...
    @property
    def needs_total(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyStep:
    """A step that wants to be prepared (its condition evaluated, unless that is done) and published."""

    id: UUID
    run_id: UUID
    version_id: UUID
    key: str
    queue: str
    type: str
    attempt: int
    needs_total: int
    needs_met: int
    needs_prepare: bool
    priority: int = 0
    path: str = ""
    isolated: bool = False
    """Travels in a message of its own: its worker was lost before."""

    @classmethod
    def of(cls, row: ReadyRow) -> ReadyStep:
        """The step of a row that was there before."""
        return cls.new(row, path=row.path, isolated=row.losses > 0)

    @classmethod
    def new(cls, row: NewStepRow, *, path: str = "", isolated: bool = False) -> ReadyStep:
        """The step of a row that was inserted."""
        return cls(
            id=row.id,
            run_id=row.run_id,
            version_id=row.version_id,
            key=row.key,
            queue=row.queue,
            type=row.type,
            attempt=row.attempt,
            needs_total=row.needs_total,
            needs_met=row.needs_met,
            needs_prepare=row.needs_prepare,
            priority=row.priority,
            path=path,
            isolated=isolated,
        )

    @property
    def all_needs_skipped(self) -> bool:
        return needs.all_skipped(needs_total=self.needs_total, needs_met=self.needs_met)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A running step under this worker's lease."""

    id: UUID
    run_id: UUID
    version_id: UUID
    org_id: UUID
    key: str
    attempt: int
    wake_seq: int
    losses: int
    server_retry_waits: int
    timeout_ms: int
    queue: str
    all_needs_skipped: bool
    lease: UUID | None
    type: str = ""
    priority: int = 0
    queued_s: float = 0.0
    """How long the step was ready before this try."""
    run_began: bool = False
    run_trigger: str = ""
    """What started its run, and by which event; of a claim that began it."""
    run_event: str = ""
    run_event_id: UUID | None = None
    path: str = ""
    container_id: UUID | None = None
    index: int | None = None
    """Of its item, within its container."""
    waited_for: str = ""
    """Of a step that no worker has, but that waits: for what."""

    @classmethod
    def of(
        cls,
        row: ClaimRow,
        lease: UUID | None,
        *,
        waited_for: str = "",
        run_began: bool = False,
        run_trigger: str = "",
        run_event: str = "",
        run_event_id: UUID | None = None,
    ) -> Claim:
        """The claim of a row, with what only some statements know of it."""
        return cls(
            id=row.id,
            run_id=row.run_id,
            version_id=row.version_id,
            org_id=row.org_id,
            key=row.key,
            attempt=row.attempt,
            wake_seq=row.wake_seq,
            losses=row.losses,
            server_retry_waits=row.server_retry_waits,
            timeout_ms=row.timeout_ms,
            queue=row.queue,
            lease=lease,
            type=row.type,
            priority=row.priority,
            queued_s=row.queued_s,
            all_needs_skipped=needs.all_skipped(needs_total=row.needs_total, needs_met=row.needs_met),
            run_began=run_began,
            run_trigger=run_trigger,
            run_event=run_event,
            run_event_id=run_event_id,
            path=row.path,
            container_id=row.container_id,
            index=row.index,
            waited_for=waited_for,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """An outcome to be recorded, its output and input already as JSON text that can be stored."""

    claim: Claim
    outcome: Outcome
    output: str | None = None
    input: str | None = None
    started: float | None = None
    """When its handler began, by the monotonic clock."""
    pause_s: float = 0.0
    """How long the other side wants to be left alone."""
    logs: str | None = None
    """The lines that its handler logged, as JSON text."""


@dataclass(kw_only=True)
class Recorded:
    """The consequences of a recorded group. `lease`: that of its `claimed` steps."""

    lease: UUID = NIL_UUID
    statuses: dict[UUID, str] = field(default_factory=dict)
    """By step run whose result counted: its status now."""
    ready: list[ReadyStep] = field(default_factory=list)
    claimed: list[Claim] = field(default_factory=list)
    ended: list[tuple[UUID, str]] = field(default_factory=list)
    versions: dict[UUID, UUID] = field(default_factory=dict)
    """Of the runs that ended, or stop."""
    runs_to_stop: list[UUID] = field(default_factory=list)
    new_waits: list[UUID] = field(default_factory=list)
    """Steps that wait for something now: it may have happened already."""
    finished_containers: list[UUID] = field(default_factory=list)
    """Containers whose items may all have ended."""
    ended_child_runs: list[UUID] = field(default_factory=list)
    """Of the runs that ended: those that other runs have started."""
    unstarted: list[UUID] = field(default_factory=list)
    """Steps that were ready and will not start: their runs stop."""
    sizes: dict[UUID, int] = field(default_factory=dict)
    """Of the runs that completed: how many bytes their results have."""
    failures: list[StepFailed] = field(default_factory=list)
    """What failed for good."""

    def add(self, more: Recorded) -> None:
        """Add the consequences of another group, which has claimed nothing."""
        self.statuses |= more.statuses
        self.versions |= more.versions
        self.sizes |= more.sizes
        for name in (
            "ready",
            "claimed",
            "ended",
            "runs_to_stop",
            "new_waits",
            "finished_containers",
            "ended_child_runs",
            "unstarted",
            "failures",
        ):
            getattr(self, name).extend(getattr(more, name))


@dataclass(frozen=True, kw_only=True)
class StepFailed:
    """A failure for good, as it is announced to dead letters within the recording transaction."""

    org_id: UUID
    run_id: UUID
    step_run_id: UUID | None
    """None where the run failed by itself: its output, or what follows its failure."""
    step_key: str
    step_type: str
    attempts: int
    error: StepError
    alert: bool = False
    """The flow wants to be alerted of every failure."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a run comes from: `origin`, the run that it repeats (or whose failure it handles), and how; `parent`, the
    run that started it, and what becomes of it when that one is cancelled."""

    origin_id: UUID | None = None
    origin_kind: Literal["", "replay", "resume", "fork", "on_failure"] = ""
    repair_root_id: UUID | None = None
    """Of a repair: the run that failed first."""
    repair_number: int = 0
    """Of a repair: its place among those of that run, from 1."""
    parent_id: UUID | None = None
    parent_policy: Literal["", "cancel", "abandon"] = ""
    awaited: bool = False
    """The parent waits for it: it runs within the slots that the parent holds."""

    @property
    def repeats(self) -> bool:
        return self.origin_kind in {"replay", "resume", "fork"}


NO_LINEAGE = Lineage()


@dataclass(kw_only=True)
class Candidate:
    """A run that is wanted: what expressions may read of it, and its input as JSON text."""

    id: UUID
    facts: Mapping[str, Any]
    text: str
    event_id: UUID | None
    event_name: str
    user_id: str
    priority: int
    received_at: dt.datetime | None = None
    """When its event was received; None: now."""
    newest_at: dt.datetime | None = None
    gather_key: str = ""
    gathered: int = 0
    singleton_key: str = ""
    tags: Sequence[str] = ()
    run_at: dt.datetime | None = None
    api_key: str | None = None
    """Digest of the key by which it is asked for, where the statement that makes it has to check that."""


class ClaimedBatch(NamedTuple):
    claims: list[Claim]
    newest_dispatch: dict[str, float]
    """By queue: the latest dispatch time (epoch seconds) among the claimed steps."""
    awaited: frozenset[UUID]
    """The runs among theirs that others wait for."""


MayContinue = Callable[[UUID, str], bool]


def always(version_id: UUID, key: str) -> bool:
    return True
