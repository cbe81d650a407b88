"""The leader's care for the gate: timers, the loss of the store, permits without an owner, the size of the queues.

The store is disposable: a new epoch is rebuilt from what Postgres knows, and admits nothing until it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

import structlog

from throttling import overrides
from throttling.defaults import BY_TYPE
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.gate import PastStarts, Request
from throttling.limits import MAX_PERIOD_MS, RateLimit, queue_value
from throttling.names import (
    RATE_KINDS,
    Definition,
    LimitInstance,
    LimitName,
    Scope,
    kind_of,
    run_of_permit,
    run_permit,
)
from workflows.definitions.compiled import NIL_UUID, CompiledFlow
from workflows.engine.pipeline import admit, publish
from workflows.engine.run_controls import sleepers
from workflows.engine.sql import gate_sync as sql
from workflows.engine.sql.gate_sync import RecentRunStartsRow, StartedRunsRow
from workflows.engine.state import database, flow_cache
from workflows.models.run import first_id
from workflows.models.worker import SILENT_AFTER_S
from workflows.steps.registry import LANES, TIMED_LANES

log = structlog.get_logger(__name__)
T = TypeVar("T")

QUIET_S = 0.25
"""After a loss nothing is looked at for so long: a step may start this long after its stamp by the old epoch."""
LONGEST_RATE_S = MAX_PERIOD_MS / 1000
"""What has started so long ago counts in no rate limit any more."""
PAGE = 1_000
MAX_CALLS = 20


class GateSync:
    """The state of the leader's work on the gate."""

    def __init__(self) -> None:
        self._announced: AnnouncedPermits | None = None
        self._warned = False
        self._old_generations = True
        self._idle_since: dict[str, float] = {}
        self._revision = -1
        self.workers = ""
        """The workers (as `due_work` names them) whose announcement the store has."""

    def idle_for(self, queue: str, idle: bool) -> float:
        """Seconds for which the queue has been empty and its workers idle; workers report themselves every two."""
        now = time.monotonic()
        if not idle:
            self._idle_since.pop(queue, None)
            return 0.0
        return now - self._idle_since.setdefault(queue, now)

    def note_nothing_dispatched(self, queues: Iterable[str]) -> None:
        """Nothing is on its way in these queues: they have been idle since now at least."""
        now = time.monotonic()
        for queue in queues:
            self._idle_since.setdefault(queue, now)

    def forget(self) -> None:
        """Another leads: what this process brought to the store may be changed."""
        self._announced, self._idle_since, self.workers = None, {}, ""

    def wake(self) -> float:
        """Hand over what time has freed; seconds until there is something to do next."""
        if not admit.is_on():
            return 60.0
        try:
            due_s = self._wake_or_rebuild()
        except StoreUnavailable as error:
            if not self._warned:
                log.warning("the throttle store does not answer: nothing starts until it does", error=str(error))
            self._warned = True
            return 0.5
        if self._warned:
            log.info("the throttle store answers again")
        self._warned = False
        return due_s

    def _wake_or_rebuild(self) -> float:
        for _ in range(MAX_CALLS):
            try:
                answer, due_s = admit.gate().wake()
            except EpochClosed:
                self.rebuild()
                return 0.0
            self._revision = answer.revision
            publish.publish_granted(answer)
            if not answer.more:
                return due_s
        return 0.0

    def sweep(self) -> None:
        """After a new epoch: delete what the earlier ones left."""
        if admit.is_on() and self._old_generations:
            self._old_generations = False
            admit.gate().sweep()

    def size_queues(self, announced: AnnouncedPermits, *, workers: str = "") -> None:
        """A lane may have as many permits out as its live workers announce."""
        if admit.is_on() and announced != self._announced:
            self._bring(announced)
        self.workers = workers

    def _bring(self, announced: AnnouncedPermits) -> None:
        answer, _ = admit.gate().wake(queue_definitions(announced.by_lane, shared=announced.shared))
        self._announced = announced
        publish.publish_granted(answer)

    def follow_policies(self, revision: int | None = None) -> None:
        """Every second: is there a change of policies that its writer could not bring to the store? `revision`: the
        latest one, where it is known."""
        if not admit.is_on() or (revision is not None and revision <= self._revision):
            return
        with database.borrowed_from_django():
            if overrides.latest_revision() > admit.gate().epoch()[2]:
                bring_policies()

    def rebuild(self, *, anew: bool = False) -> bool:
        """Begin (or go on with) a new epoch. False where another has done it, or is about to begin another."""
        gate = admit.gate()
        generation, state = gate.begin_epoch(anew=anew)
        if state == "open":
            return False
        started = time.monotonic()
        time.sleep(QUIET_S)
        self._announced, self._old_generations, self.workers = None, True, ""
        with database.borrowed_from_django():
            current = admit.snapshot().reload()
        leases = _executing()
        runs, asleep, run_starts = _runs()
        starts = [*_starts(), *run_starts]
        places = announced_permits()
        gate.restore(definitions=queue_definitions(places.by_lane, shared=places.shared))
        for page in _pages(leases):
            gate.restore(leases=page)
        for page in _pages(runs):
            gate.restore(runs=page, sleepers=asleep)
        for starts_page in _pages(sorted(starts, key=lambda start: -start.age_s)):
            gate.restore(starts=starts_page, definitions=_definitions_of(starts_page))
        sql.unpark_steps(ids=None)
        opened = gate.open_epoch(generation, current.revision)
        log.warning(
            "the gate's state was rebuilt from Postgres",
            executing=len(leases),
            runs=len(runs),
            starts=sum(start.count for start in starts),
            seconds=round(time.monotonic() - started, 3),
            opened=opened,
        )
        return opened


@dataclass(frozen=True, kw_only=True)
class AnnouncedPermits:
    """How many permits each lane may have out, by what live workers say. `shared`: by more than one organization; a
    single one need not leave a place free."""

    by_lane: dict[str, int]
    shared: bool


def announced_permits() -> AnnouncedPermits:
    """What the live workers announce now."""
    rows = sql.lane_permits(silent_s=SILENT_AFTER_S)
    by_lane = dict.fromkeys(LANES, 0) | {row.lane: row.places for row in rows if row.lane in LANES}
    return AnnouncedPermits(by_lane=by_lane, shared=any(row.shared for row in rows))


def queue_definitions(permits: dict[str, int], *, shared: bool = True) -> dict[str, str]:
    """The definitions of the lanes' limits in the store."""
    stamp = time.time_ns() // 1_000_000
    values = {name: queue_value(number, timed=name in TIMED_LANES, shared=shared) for name, number in permits.items()}
    return {LimitName.of_queue(name).text: str(Definition(base=value, stamp=stamp)) for name, value in values.items()}


def bring_policies() -> None:
    """Tell the store what the overrides say now, so that waiting steps start by it at once.

    Raises StoreUnavailable or EpochClosed.
    """
    gate = admit.gate()
    current = admit.snapshot().reload()
    gate.revise(current.revision)
    changed: dict[str, str] = {}
    for text, stored in gate.definitions():
        name, definition = LimitName.parse(text), Definition.parse(stored)
        value = current.override_value(name) if name.scope is not Scope.QUEUE else ""
        if value != definition.override:
            changed[text] = str(replace(definition, override=value, revision=current.revision))
    if changed:
        answer, _ = gate.wake(changed)
        publish.publish_granted(answer)


def begin_anew() -> None:
    """Which limits apply has changed: every waiting step asks again under the new ones. The leader rebuilds."""
    admit.gate().begin_epoch(anew=True)


def audit() -> None:
    """Permits and places without an owner, and owners without a place: rare, after a crash at a bad moment."""
    if not admit.is_on():
        return
    gate = admit.gate()
    held = gate.permits()
    runs = [UUID(run) for run in map(run_of_permit, held) if run is not None]
    steps = [UUID(id_) for id_, state in held.items() if state in {"r", "l"} and run_of_permit(id_) is None]
    live = {row.id for row in sql.ready_among(steps=steps, runs=runs)} if steps or runs else set()
    placed = admit.policies().run_places is not None
    idle = sleepers.among(run for run in runs if run in live and held[run_permit(run.hex)] == "h") if placed else ()
    publish.withdraw([id_ for id_ in steps if id_ not in live], [id_ for id_ in runs if id_ not in live], sleepers=idle)
    after = NIL_UUID
    while page := [row.id for row in sql.parked_steps(after=after, batch=PAGE)]:
        places = gate.places([id_.hex for id_ in page])
        lost = [id_ for id_ in page if places.get(id_.hex, ("", 0.0))[0] != "waiting"]
        if lost:
            sql.unpark_steps(ids=lost)
        after = page[-1]


def _pages(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What `admit.requests` needs of a step (`WantsToStart`), for a row with fewer columns."""

    version_id: UUID
    key: str
    run_id: UUID = NIL_UUID
    id: UUID = NIL_UUID
    queue: str = ""
    priority: int = 0


def _usable(version_ids: Iterable[UUID]) -> dict[UUID, CompiledFlow]:
    """The versions that this process can load; the steps of others fail elsewhere."""
    return flow_cache.load(version_ids).flows


def _executing() -> list[Request]:
    rows = sql.running_steps()
    usable = _usable(row.version_id for row in rows)
    steps = [
        _Step(version_id=row.version_id, key=row.key, run_id=row.run_id, id=row.id, queue=row.queue)
        for row in rows
        if row.version_id in usable
    ]
    leases = {row.id: str(row.lease_token) for row in rows}
    return [request for page in _pages(steps) for request in admit.requests(page, leases=leases)]


def _starts() -> list[PastStarts]:
    """Starts of steps within the longest period there is."""
    flows = list(_usable(row.id for row in sql.limited_versions(longest_s=LONGEST_RATE_S)).values())
    keyed = [
        f"{flow.version_id}:{key}"
        for flow in flows
        for key in flow.steps
        if admit.limits_of(flow.version_id, key).keyed
    ]
    since_s = _longest_period_s(flows)
    first = first_id(time.time() - since_s)
    rows = sql.recent_starts(since_s=since_s, first=first, keyed=keyed)
    usable = _usable(row.version_id for row in rows)
    found: list[PastStarts] = []
    for page in _pages([row for row in rows if row.version_id in usable]):
        steps = [_Step(version_id=row.version_id, key=row.key, run_id=row.run_id or NIL_UUID) for row in page]
        for row, request in zip(page, admit.requests(steps), strict=True):
            found += _past(request.limits.steps, row.age_s, row.starts)
    return found


def _past(instances: Iterable[str], age_s: float, count: int = 1) -> list[PastStarts]:
    """The starts as the rate limits among these count them."""
    return [PastStarts(instance=each, age_s=age_s, count=count) for each in instances if kind_of(each) in RATE_KINDS]


def _longest_period_s(flows: Iterable[CompiledFlow]) -> float:
    current = admit.policies()
    periods = [current.globals().rate.per_ms]
    periods += [override.rate.per_ms for override in current.overrides.values() if override.rate]
    periods += [policy.rate.per_ms for policy in BY_TYPE.values()]
    if current.runs.rate:
        periods.append(current.runs.rate.per_ms)
    for flow in flows:
        for key in flow.steps:
            bounds = [limit.bound for limit in admit.limits_of(flow.version_id, key).limits]
            periods += [bound.per_ms for bound in bounds if isinstance(bound, RateLimit)]
    return max(periods) / 1000 * 1.01 + 1


def _runs() -> tuple[list[Request], set[str], list[PastStarts]]:
    """Live runs that hold slots, which of them only wait, and the starts of runs within their windows."""
    current = admit.policies()
    drains = any(override.scope == "drain" for override in current.overrides.values())
    everywhere = drains or current.run_places or current.runs.rate or current.override("runs")
    rows_of_versions = sql.versions_in_use() if everywhere else sql.limited_versions(longest_s=LONGEST_RATE_S)
    found = _usable(row.id for row in rows_of_versions)
    # All steps of a version have the same run limits: the first one stands for them.
    first = {version_id: next(iter(flow.steps)) for version_id, flow in found.items()}
    versions = [
        version_id
        for version_id, key in first.items()
        if any(limit.runs for limit in admit.limits_of(version_id, key).limits)
    ]
    if not versions:
        return [], set(), []

    def requests(rows: Sequence[StartedRunsRow | RecentRunStartsRow]) -> list[Request]:
        steps = [_Step(version_id=row.version_id, key=first[row.version_id], run_id=row.id) for row in rows]
        return [request for page in _pages(steps) for request in admit.requests(page)]

    started = sql.started_runs(versions=versions)
    held, asleep = requests(started), {row.id.hex for row in started if row.sleeps}
    since_s = _longest_period_s([found[version_id] for version_id in versions])
    rows = sql.recent_run_starts(since_s=since_s, versions=versions)
    starts: list[PastStarts] = []
    for row, request in zip(rows, requests(rows), strict=True):
        starts += _past(request.limits.runs, row.age_s)
    return held, asleep, starts


def _definitions_of(starts: Iterable[PastStarts]) -> dict[str, str]:
    """The definitions of the limits that these starts belong to, by what is in memory."""
    names = {LimitInstance.parse(start.instance).name.text for start in starts}
    return {name: definition for name, definition in admit.known_definitions() if name in names}
