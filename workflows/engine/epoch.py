"""The leader's care for the gate: timers, the loss of the store, permits without an owner, the size of the queues.

The store is disposable: a new epoch is rebuilt from what Postgres knows, and admits nothing until it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import structlog
from django.db import connections

from throttling import overrides
from throttling.defaults import BY_TYPE
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.gate import PastStarts, Request
from throttling.limits import RateLimit
from workflows.engine import admission, catalog, dispatch, store
from workflows.engine.transitions import NOBODY
from workflows.errors import WorkflowsError
from workflows.steps.registry import QUEUES

log = structlog.get_logger(__name__)
T = TypeVar("T")

QUIET_S = 0.25
"""After a loss nothing is looked at for so long: a step may start this long after its stamp by the old epoch."""
PAGE = 1_000
MAX_CALLS = 20


class Keeper:
    """The state of the leader's work on the gate."""

    def __init__(self) -> None:
        self._queue_permits: dict[str, int] = {}
        self._warned = False
        self._old_generations = True
        self._idle_since: dict[str, float] = {}

    def idle_for(self, queue: str, idle: bool) -> float:
        """Seconds for which the queue has been empty and its workers idle; workers report themselves every two."""
        now = time.monotonic()
        if not idle:
            self._idle_since.pop(queue, None)
            return 0.0
        return now - self._idle_since.setdefault(queue, now)

    def forget(self) -> None:
        """Another leads: what this process brought to the store may be changed."""
        self._queue_permits, self._idle_since = {}, {}

    def wake(self) -> float:
        """Hand over what time has freed; seconds until there is something to do next."""
        if not admission.ENABLED:
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
                answer, due_s = admission.gate().wake()
            except EpochClosed:
                self.rebuild()
                return 0.0
            dispatch.follow(answer)
            if not answer.more:
                return due_s
        return 0.0

    def sweep(self) -> None:
        """After a new epoch: delete what the earlier ones left."""
        if admission.ENABLED and self._old_generations:
            self._old_generations = False
            admission.gate().sweep()

    def size_queues(self, announced: dict[str, int]) -> None:
        """A queue may have as many permits out as its live workers announce."""
        permits = {name: announced.get(name, 0) for name in QUEUES}
        if not admission.ENABLED or permits == self._queue_permits:
            return
        answer, _ = admission.gate().wake(queue_definitions(permits))
        self._queue_permits = permits
        dispatch.follow(answer)

    def follow_policies(self) -> None:
        """Every second: is there a change of policies that its writer could not bring to the store?"""
        if not admission.ENABLED:
            return
        try:
            latest = overrides.latest_revision()
            if latest > admission.gate().epoch()[2]:
                bring_policies()
        finally:
            if store.is_adopted():
                connections.close_all()

    def rebuild(self, *, anew: bool = False) -> bool:
        """Begin (or go on with) a new epoch. False where another has done it, or is about to begin another."""
        gate = admission.gate()
        generation, state = gate.begin_epoch(anew=anew)
        if state == "open":
            return False
        started = time.monotonic()
        time.sleep(QUIET_S)
        self._queue_permits, self._old_generations = {}, True
        try:
            current = overrides.reload()
        finally:
            if store.is_adopted():
                connections.close_all()
        leases = _executing()
        runs, run_starts = _runs()
        starts = [*_starts(), *run_starts]
        rows = store.fetch("queue_states", {"silent_s": 8.0})
        permits = dict.fromkeys(QUEUES, 0) | {row.queue: row.permits for row in rows}
        gate.restore(definitions=queue_definitions(permits))
        for page in _pages(leases):
            gate.restore(leases=page)
        for page in _pages(runs):
            gate.restore(runs=page)
        for starts_page in _pages(sorted(starts, key=lambda start: -start.age_s)):
            gate.restore(starts=starts_page, definitions=_definitions_of(starts_page))
        store.fetch("unpark_steps", {"ids": None})
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


def queue_definitions(permits: dict[str, int]) -> dict[str, str]:
    stamp = time.time_ns() // 1_000_000
    return {admission.queue_name(name): f"{number}|{stamp}||0" for name, number in permits.items()}


def bring_policies() -> None:
    """Tell the store what the overrides say now, so that waiting steps start by it at once.

    Raises StoreUnavailable or EpochClosed.
    """
    gate = admission.gate()
    current = overrides.reload()
    gate.revise(current.revision)
    changed: dict[str, str] = {}
    for name, stored in gate.definitions():
        base, stamp, override, _ = stored.split("|")
        value = current.override_value(name) if not name.startswith("queue:") else ""
        if value != override:
            changed[name] = f"{base}|{stamp}|{value}|{current.revision}"
    if changed:
        answer, _ = gate.wake(changed)
        dispatch.follow(answer)


def begin_anew() -> None:
    """Which limits apply has changed: every waiting step asks again under the new ones. The leader rebuilds."""
    admission.gate().begin_epoch(anew=True)


def audit() -> None:
    """Permits and places without an owner, and owners without a place: rare, after a crash at a bad moment."""
    if not admission.ENABLED:
        return
    gate = admission.gate()
    held = gate.permits()
    steps = [UUID(id_) for id_, state in held.items() if state in {"r", "l"} and not id_.startswith("run:")]
    runs = [UUID(id_[4:]) for id_ in held if id_.startswith("run:")]
    live = {row.id for row in store.fetch("ready_among", {"steps": steps, "runs": runs})} if steps or runs else set()
    dispatch.withdraw([id_ for id_ in steps if id_ not in live], [id_ for id_ in runs if id_ not in live])
    after = NOBODY
    while page := [row.id for row in store.fetch("parked_steps", {"after": after, "batch": PAGE})]:
        places = gate.places([id_.hex for id_ in page])
        lost = [id_ for id_ in page if places.get(id_.hex, ("", 0.0))[0] != "waiting"]
        if lost:
            store.fetch("unpark_steps", {"ids": lost})
        after = page[-1]


def _pages(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


class _Step:
    """A row as `admission` wants it."""

    def __init__(self, row: Any, run_id: UUID | None = None) -> None:
        self.id: UUID = getattr(row, "id", NOBODY)
        self.run_id: UUID = run_id or getattr(row, "run_id", None) or NOBODY
        self.version_id: UUID = row.version_id
        self.key: str = row.key
        self.queue: str = getattr(row, "queue", "")
        self.priority = 0
        self.lease_token = getattr(row, "lease_token", None)


def _loadable(rows: Iterable[Any]) -> list[Any]:
    """Rows whose version this process can use; others' steps fail elsewhere."""
    usable: dict[UUID, bool] = {}

    def is_usable(row: Any) -> bool:
        if row.version_id not in usable:
            try:
                usable[row.version_id] = catalog.flow_of(row.version_id).steps is not None
            except (WorkflowsError, LookupError, ValueError) as error:
                log.warning("a version can't be loaded", version=str(row.version_id), error=str(error))
                usable[row.version_id] = False
        return usable[row.version_id]

    return [row for row in rows if is_usable(row)]


def _executing() -> list[Request]:
    steps = [_Step(row) for row in _loadable(store.fetch("running_steps", {}))]
    requests: list[Request] = []
    for page in _pages(steps):
        leases = {step.id: str(step.lease_token) for step in page}
        requests += admission.requests(page, leases=leases)
    return requests


def _starts() -> list[PastStarts]:
    """Starts within the longest period there is."""
    versions = [row.id for row in store.fetch("limited_versions", {})]
    flows = [catalog.flow_of(row.version_id) for row in _loadable([_Version(version) for version in versions])]
    keyed = [
        f"{flow.version_id}:{key}"
        for flow in flows
        for key in flow.steps
        if admission.limits_of(flow.version_id, key).keyed
    ]
    since_s = _longest_period_s(flows)
    first = UUID(int=(int((time.time() - since_s) * 1000) & ((1 << 48) - 1)) << 80)
    rows = _loadable(store.fetch("recent_starts", {"since_s": since_s, "first": first, "keyed": keyed}))
    found: list[PastStarts] = []
    for page in _pages(rows):
        steps = [_Step(row) for row in page]
        for row, request in zip(page, admission.requests(steps), strict=True):
            found += [
                PastStarts(instance=instance, age_s=row.age_s, count=row.starts)
                for instance in request.limits.steps
                if instance[0] in "wg"
            ]
    return found


class _Version:
    def __init__(self, version_id: UUID) -> None:
        self.version_id = version_id


def _longest_period_s(flows: Iterable[Any]) -> float:
    current = overrides.current()
    periods = [current.globals().rate.per_ms]
    periods += [override.rate.per_ms for override in current.overrides.values() if override.rate]
    if current.runs.rate:
        periods.append(current.runs.rate.per_ms)
    periods += [policy.rate.per_ms for policy in BY_TYPE.values()]
    for flow in flows:
        for step in flow.steps.values():
            for found in admission.limits_of(flow.version_id, step.key).limits:
                if isinstance(found.bound, RateLimit):
                    periods.append(found.bound.per_ms)
    return max(periods) / 1000 * 1.01 + 1


def _runs() -> tuple[list[Request], list[PastStarts]]:
    """Live runs that hold slots, and the starts of runs within their windows."""
    current = overrides.current()
    everywhere = current.runs.concurrency or current.runs.rate or current.override("runs")
    rows = store.fetch("limited_versions", {})
    if everywhere:
        rows = store.fetch("versions_in_use", {})
    versions = [
        row.version_id for row in _loadable([_Version(row.id) for row in rows]) if _first_with_runs(row.version_id)
    ]
    if not versions:
        return [], []

    def request(row: Any) -> Request:
        step = _Step(_First(row.version_id, _first_with_runs(row.version_id)), run_id=row.id)
        return admission.requests([step])[0]._replace(run=row.id.hex)

    held = [request(row) for row in store.fetch("started_runs", {"versions": versions})]
    starts: list[PastStarts] = []
    since_s = _longest_period_s([catalog.flow_of(version) for version in versions])
    for row in store.fetch("recent_run_starts", {"since_s": since_s, "versions": versions}):
        starts += [
            PastStarts(instance=instance, age_s=row.age_s)
            for instance in request(row).limits.runs
            if instance[0] in "wg"
        ]
    return held, starts


class _First:
    def __init__(self, version_id: UUID, key: str) -> None:
        self.version_id, self.key = version_id, key


def _first_with_runs(version_id: UUID) -> str:
    """A step of a version that has run limits (all its steps have the same); empty where it has none."""
    key = next(iter(catalog.flow_of(version_id).steps))
    return key if any(limit.runs for limit in admission.limits_of(version_id, key).limits) else ""


def _definitions_of(starts: Iterable[PastStarts]) -> dict[str, str]:
    """The definitions of the limits that these starts belong to, by what is in memory."""
    names = {start.instance[2:].split("@", 1)[0] for start in starts}
    return {name: definition for name, definition in admission.known_definitions() if name in names}
