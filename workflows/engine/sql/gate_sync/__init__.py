"""The statements of `gate_sync` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database


class LanePermitsRow(NamedTuple):
    lane: str
    places: int
    shared: bool


def lane_permits(*, silent_s: float, cursor: database.Cursor | None = None) -> list[LanePermitsRow]:
    """How many permits each lane may have out, by what live workers announce."""
    return database.fetch("lane_permits", {"silent_s": silent_s}, LanePermitsRow._make, cursor)


class LimitedVersionsRow(NamedTuple):
    id: UUID


def limited_versions(*, longest_s: float, cursor: database.Cursor | None = None) -> list[LimitedVersionsRow]:
    """Versions that may have limits of their own (`throttling`, `concurrency`, `throttle`), in use or current."""
    return database.fetch("limited_versions", {"longest_s": longest_s}, LimitedVersionsRow._make, cursor)


class ParkedStepsRow(NamedTuple):
    id: UUID


def parked_steps(*, after: UUID, batch: int, cursor: database.Cursor | None = None) -> list[ParkedStepsRow]:
    """A page of the steps that are noted as waiting for a limit."""
    return database.fetch("parked_steps", {"after": after, "batch": batch}, ParkedStepsRow._make, cursor)


class QueueStatesRow(NamedTuple):
    queue: str
    workers: int
    claimed_until: float | None
    unclaimed: int
    active: int
    slots: int


def queue_states(*, silent_s: float, cursor: database.Cursor | None = None) -> list[QueueStatesRow]:
    """What live workers say of the queues."""
    return database.fetch("queue_states", {"silent_s": silent_s}, QueueStatesRow._make, cursor)


class ReadyAmongRow(NamedTuple):
    id: UUID


def ready_among(
    *, steps: Iterable[UUID], runs: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[ReadyAmongRow]:
    """Which of some steps and runs are still live."""
    return database.fetch("ready_among", {"steps": list(steps), "runs": list(runs)}, ReadyAmongRow._make, cursor)


class RecentRunStartsRow(NamedTuple):
    id: UUID
    version_id: UUID
    age_s: float


def recent_run_starts(
    *, since_s: float, versions: Iterable[UUID], cursor: database.Cursor | None = None
) -> list[RecentRunStartsRow]:
    """Starts of runs within the last seconds, of the versions named."""
    parameters = {"since_s": since_s, "versions": list(versions)}
    return database.fetch("recent_run_starts", parameters, RecentRunStartsRow._make, cursor)


class RecentStartsRow(NamedTuple):
    version_id: UUID
    key: str
    run_id: UUID | None
    age_s: float
    starts: int


def recent_starts(
    *, since_s: float, first: UUID, keyed: Iterable[str], cursor: database.Cursor | None = None
) -> list[RecentStartsRow]:
    """Starts of steps within the last seconds, for the rebuilding of the gate's windows."""
    parameters = {"since_s": since_s, "first": first, "keyed": list(keyed)}
    return database.fetch("recent_starts", parameters, RecentStartsRow._make, cursor)


class RunningStepsRow(NamedTuple):
    id: UUID
    lease_token: UUID
    run_id: UUID
    version_id: UUID
    key: str
    queue: str


def running_steps(cursor: database.Cursor | None = None) -> list[RunningStepsRow]:
    """What executes now, for the rebuilding of the gate's leases."""
    return database.fetch("running_steps", {}, RunningStepsRow._make, cursor)


class StartedRunsRow(NamedTuple):
    id: UUID
    version_id: UUID
    sleeps: bool


def started_runs(*, versions: Iterable[UUID], cursor: database.Cursor | None = None) -> list[StartedRunsRow]:
    """Live runs that have started, of the versions named."""
    return database.fetch("started_runs", {"versions": list(versions)}, StartedRunsRow._make, cursor)


def unpark_steps(*, ids: Iterable[UUID] | None, cursor: database.Cursor | None = None) -> None:
    """Ready steps that are to be admitted anew."""
    database.fetch("unpark_steps", {"ids": None if ids is None else list(ids)}, tuple, cursor)


class VersionsInUseRow(NamedTuple):
    id: UUID


def versions_in_use(cursor: database.Cursor | None = None) -> list[VersionsInUseRow]:
    """Versions with live runs, or with runs of the last day."""
    return database.fetch("versions_in_use", {}, VersionsInUseRow._make, cursor)
