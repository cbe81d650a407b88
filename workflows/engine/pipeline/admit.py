"""Between the engine and the gate: the limits of steps with their keys evaluated, and one gate for each process."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from cachetools import FIFOCache

from throttling.answers import Answer
from throttling.environment import flow_control_is_on
from throttling.errors import ThrottlingError
from throttling.gate import Gate, Request
from throttling.limits import Limit, LimitSet, RateLimit, key_text, queue_limit
from throttling.names import RUN_PLACES
from throttling.overrides import Snapshot
from throttling.policy import PRIORITY_LEVELS, Policies, StepFacts, UnknownLimit, level_of
from workflows import this_process
from workflows.engine.run_controls.keys import why_unusable
from workflows.engine.sql import admit as sql
from workflows.engine.state import database, expression_context, flow_cache
from workflows.engine.state.records import WantsToStart
from workflows.errors import ConfigurationFailure, ExpressionError
from workflows.expressions import compile_expression
from workflows.this_process.configuration import configuration

log = structlog.get_logger(__name__)
MAX_STEPS_KNOWN = 20_000


def gate() -> Gate:
    """This process's gate."""
    return this_process.own(_new_gate)


def _new_gate() -> Gate:
    return Gate(
        configuration().redis_url,
        prefix=configuration().redis_prefix,
        lease_s=configuration().gate_lease_s,
        reservation_s=configuration().gate_reservation_s,
    )


def is_on() -> bool:
    """Whether limits hold in this process, by what the environment said at its start."""
    return this_process.own(flow_control_is_on)


def snapshot() -> Snapshot:
    """This process's snapshot of the policies."""
    return this_process.own(Snapshot)


def policies() -> Policies:
    """The policies as this process knows them."""
    return snapshot().current()


def sync_revision(answer: Answer) -> bool:
    """Read the policies again where the store names a later revision. True where it did."""
    with database.borrowed_from_django():
        return snapshot().refresh_if_stale(answer.revision)


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """The limits of a step of a version, at one revision of the policies."""

    revision: int
    limits: tuple[Limit, ...]
    keyed: bool
    fixed: LimitSet
    """The limits that have no key."""
    slack_us: int
    lane: str
    by_level: Mapping[str, LimitSet]
    """`fixed`, by priority level; empty where no limit holds for one level only."""
    problem: str = ""

    @property
    def counts_runs(self) -> bool:
        return any(limit.runs for limit in self.limits)

    @property
    def has_place(self) -> bool:
        """Whether its run needs a place among all runs."""
        return any(limit.name == RUN_PLACES for limit in self.limits)

    def without_keys(self, priority: int) -> LimitSet:
        """Those without a key, for a run of this priority."""
        return self.by_level[level_of(priority)] if self.by_level else self.fixed


class KnownLimits(OrderedDict[tuple[UUID, str], StepLimits]):
    """The limits of steps as this process has found them, by version and key.

    No `cachetools` here, nor in the other caches that each step reads (`flow_cache`, `batch_size`): a look-up of theirs
    takes three times as long (250 ns for 85), and five times with the lock that they need between threads.
    """


class LimitsOfFacts(OrderedDict[StepFacts, StepLimits]):
    """The same, by what they are found by: steps of a version that differ by their key only have one set."""


def limits_of(version_id: UUID, key: str) -> StepLimits:
    """The limits of a step, from memory where the policies have not changed."""
    current, known = policies(), this_process.own(KnownLimits)
    found = known.get((version_id, key))
    if found is None or found.revision != current.revision:
        found = known[version_id, key] = _shared(current, flow_cache.flow_of(version_id).steps[key].facts)
        while len(known) > MAX_STEPS_KNOWN:
            known.popitem(last=False)
    return found


def _shared(current: Policies, facts: StepFacts) -> StepLimits:
    """The limits by these facts. Only limits that the step itself declares have its key."""
    if facts.throttling is not None:
        return _find(current, facts)
    facts, known = replace(facts, key=""), this_process.own(LimitsOfFacts)
    found = known.get(facts)
    if found is None or found.revision != current.revision:
        found = known[facts] = _find(current, facts)
        while len(known) > MAX_STEPS_KNOWN:
            known.popitem(last=False)
    return found


def _find(current: Policies, facts: StepFacts) -> StepLimits:
    problem = ""
    try:
        limits = current.limits(facts)
    except UnknownLimit as error:
        problem, limits = str(error), current.limits(facts, lenient=True)
    queue = queue_limit(facts.lane)
    fixed = [limit for limit in (*limits, queue) if not limit.key]
    leveled = any(limit.level for limit in limits)
    return StepLimits(
        revision=current.revision,
        limits=(*limits, queue),
        keyed=any(limit.key for limit in limits),
        fixed=LimitSet.of([(limit, None) for limit in fixed]),
        by_level={
            level: LimitSet.of([(limit, None) for limit in fixed if limit.level in {"", level}])
            for level in (PRIORITY_LEVELS if leveled else ())
        },
        slack_us=min(
            (limit.bound.slack_us for limit in limits if isinstance(limit.bound, RateLimit)), default=5_000_000
        ),
        problem=problem,
        lane=facts.lane,
    )


def limits_under(others: Policies, facts: StepFacts) -> StepLimits:
    """The limits of a step by other policies than those that hold: what if they did?"""
    return _find(others, facts)


def known_definitions() -> Iterable[tuple[str, str]]:
    """(name, definition) of every limit in memory."""
    for entry in list(this_process.own(KnownLimits).values()):
        for limit in entry.limits:
            if limit.is_defined:
                yield limit.stored


def evaluate(found: StepLimits, scope_: Mapping[str, Any], priority: int = 0) -> LimitSet:
    """The limits with their keys. Raises ConfigurationFailure for a key that can't be used, or an unknown limit."""
    if found.problem:
        raise ConfigurationFailure(found.problem)
    if not found.keyed:
        return found.without_keys(priority)
    pairs: list[tuple[Limit, str | None]] = []
    level = level_of(priority) if found.by_level else ""
    for limit in found.limits:
        if limit.level not in {"", level}:
            continue
        value = None
        if limit.key:
            try:
                owner = scope_.get("org", {}).get("id")
                value = key_text(compile_expression(limit.key, owner=owner, is_key=True).evaluate(scope_))
            except (ExpressionError, ThrottlingError) as error:
                reason = why_unusable(error, limit.key)
                raise ConfigurationFailure(f"The key of {limit.title} can't be used: {reason}") from None
        pairs.append((limit, value))
    return LimitSet.of(pairs)


def check(step: WantsToStart, scope_: Mapping[str, Any]) -> None:
    """Raises ConfigurationFailure where a limit of the step is unknown or its key can't be evaluated.

    (`requests` passes over that: such a step is admitted, and fails before its handler starts.)
    """
    if not is_on():
        return
    found = limits_of(step.version_id, step.key)
    if found.problem or found.keyed:
        evaluate(found, scope_ or expression_context.load([step.run_id], ())[step.run_id], step.priority)


def requests(steps: Sequence[WantsToStart], *, leases: Mapping[UUID, str] | None = None) -> list[Request]:
    """The requests of steps; their scopes, where keys need them, are loaded by one statement.

    A step whose limits can't be found asks for its other ones only: it fails in its try, before its handler.
    `leases`: of steps that are handed back, so that they keep their places.
    """
    kinds: dict[tuple[UUID, str], _Kind] = {}
    current = policies()
    for step in steps:
        if (step.version_id, step.key) not in kinds:
            org_id = flow_cache.flow_of(step.version_id).org_id
            entry = limits_of(step.version_id, step.key)
            kinds[step.version_id, step.key] = _Kind(entry, org_id.hex, current.weight(org_id))
    readers = {
        step.run_id for step in steps if (entry := kinds[step.version_id, step.key].limits).keyed and not entry.problem
    }
    scopes = expression_context.load(readers, ()) if readers else {}
    of_runs = {step.run_id for step in steps if kinds[step.version_id, step.key].limits.counts_runs}
    families = this_process.own(Families).of(of_runs) if of_runs else {}
    made = []
    for step in steps:
        entry, tenant, weight = kinds[step.version_id, step.key]
        limits = entry.without_keys(step.priority)
        if entry.keyed and step.run_id in scopes:
            with contextlib.suppress(ConfigurationFailure):
                limits = evaluate(entry, scopes[step.run_id], step.priority)
        if families.get(step.run_id):
            limits = limits.of_child(families[step.run_id])
        lease = leases.get(step.id, "") if leases else ""
        run = step.run_id.hex if limits.runs else ""
        made.append(Request(step.id.hex, limits, tenant, entry.lane, weight, step.priority, run, lease))
    return made


class Families:
    """Of runs that others wait for: the flows of those. A child runs within the slots that its ancestors hold; else all
    slots may be held by runs that wait for their children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: FIFOCache[UUID, frozenset[UUID]] = FIFOCache(MAX_STEPS_KNOWN)

    def of(self, run_ids: Iterable[UUID]) -> dict[UUID, frozenset[UUID]]:
        """By run; empty for one that nobody waits for."""
        wanted = set(run_ids)
        with self._lock:
            answer = {run_id: self._known[run_id] for run_id in wanted if run_id in self._known}
        unknown = [run_id for run_id in wanted if run_id not in answer]
        found: dict[UUID, frozenset[UUID]] = dict.fromkeys(unknown, frozenset())
        for row in sql.waiting_ancestors(ids=unknown) if unknown else ():
            found[row.id] = frozenset(row.flows)
        with self._lock:
            self._known.update(found)
        return answer | found

    def note_alone(self, run_id: UUID) -> None:
        """Remember that nobody waits for a run: nobody has to ask."""
        with self._lock:
            self._known[run_id] = frozenset()


class _Kind(NamedTuple):
    """What the requests of all runs of a step have in common."""

    limits: StepLimits
    tenant: str
    weight: float


FREE_AGAIN_AFTER_S = 0.1


class Refusals(dict[str, float]):
    """When each limit had no room for the last time, by the monotonic clock."""


def note_refusals(answer: Answer, asked: Sequence[Request]) -> None:
    """Remember for a moment which limits had no room, so that nothing is claimed in vain."""
    if not answer.parked:
        return
    parked, now, refused = set(answer.parked), time.monotonic(), this_process.own(Refusals)
    if len(refused) > MAX_STEPS_KNOWN:
        refused.clear()
    for request in asked:
        if request.id in parked:
            for instance in (*request.limits.runs, *request.limits.steps):
                refused[instance] = now


def free_steps() -> Callable[[UUID, str], bool]:
    """A predicate: is a step likely to be admitted, since none of its limits has refused anything in 0.1 s?"""
    since, refused = time.monotonic() - FREE_AGAIN_AFTER_S, this_process.own(Refusals)
    known: dict[tuple[UUID, str], bool] = {}

    def is_free(version_id: UUID, key: str) -> bool:
        found = known.get((version_id, key))
        if found is None:
            entry = limits_of(version_id, key)
            found = not entry.keyed and not entry.problem
            found = found and all(refused.get(instance, -math.inf) < since for instance in entry.fixed.steps)
            found = found and not entry.by_level
            known[version_id, key] = found
        return found

    return is_free


def slack_s(version_id: UUID, key: str) -> float:
    """Seconds after its timestamp within which a step must start: half of the window's slack.

    The other half covers scheduling jitter.
    """
    return limits_of(version_id, key).slack_us / 2e6


def provider_pauses(step: WantsToStart, scope_: Mapping[str, Any]) -> tuple[str, ...]:
    """The limits that an answer's `Retry-After` pauses: the step's shared or keyed ones, else its provider's."""
    found = limits_of(step.version_id, step.key)
    if not found.keyed:
        return found.fixed.paused_by_provider
    return evaluate(
        found, scope_ or expression_context.load([step.run_id], ())[step.run_id], step.priority
    ).paused_by_provider
