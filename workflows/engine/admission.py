"""Between the engine and the gate: the limits of steps with their keys evaluated, and one gate for each process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections

from throttling import overrides
from throttling.errors import ThrottlingError
from throttling.gate import Answer, Gate, Request
from throttling.limits import ConcurrencyLimit, Limit, LimitSet, key_text
from throttling.policy import Policies, StepFacts, UnknownLimit, flow_control_is_on
from workflows.engine import catalog, scope, store
from workflows.errors import ConfigurationFailure, ExpressionError
from workflows.expressions import compile_expression

log = structlog.get_logger(__name__)
MAX_STEPS_KNOWN = 20_000
ENABLED = flow_control_is_on()

_gate: Gate | None = None
_gate_pid = 0
_lock = threading.Lock()


class WantsToStart(Protocol):
    """A ready step or a claim: what the limits of a step are found by."""

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


def gate() -> Gate:
    """This process's gate."""
    global _gate, _gate_pid
    if _gate is None or _gate_pid != os.getpid():
        with _lock:
            if _gate is None or _gate_pid != os.getpid():
                _gate, _gate_pid = Gate(settings.REDIS_URL, prefix=settings.REDIS_PREFIX), os.getpid()
    return _gate


def policies() -> Policies:
    """The policies as this process knows them."""
    return overrides.current()


def note(answer: Answer) -> bool:
    """Follow the revision that the store names. True where this process lagged behind."""
    if answer.revision <= overrides.current().revision:
        return False
    try:
        return overrides.follow(answer.revision)
    finally:
        if store.is_adopted():
            connections.close_all()


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """The limits of a step of a version, at one revision of the policies."""

    revision: int
    limits: tuple[Limit, ...]
    keyed: bool
    fixed: LimitSet
    """Without those that have a key: all, where none has."""
    problem: str = ""


_known: OrderedDict[tuple[UUID, str], StepLimits] = OrderedDict()


def limits_of(version_id: UUID, key: str) -> StepLimits:
    """The limits of a step, from memory where the policies have not changed."""
    current = overrides.current()
    found = _known.get((version_id, key))
    if found is None or found.revision != current.revision:
        found = _find(current, catalog.flow_of(version_id).steps[key].facts)
        _known[version_id, key] = found
        while len(_known) > MAX_STEPS_KNOWN:
            _known.popitem(last=False)
    return found


def _find(current: Policies, facts: StepFacts) -> StepLimits:
    problem = ""
    try:
        limits = current.limits(facts)
    except UnknownLimit as error:
        problem, limits = str(error), current.limits(facts, lenient=True)
    queue = _queue_limit(facts.lane)
    return StepLimits(
        revision=current.revision,
        limits=(*limits, queue),
        keyed=any(limit.key for limit in limits),
        fixed=LimitSet.of([(limit, None) for limit in (*limits, queue) if not limit.key]),
        problem=problem,
    )


def known_definitions() -> Iterable[tuple[str, str]]:
    """(name, definition) of every limit in memory."""
    for entry in list(_known.values()):
        for limit in entry.limits:
            if limit.is_defined:
                yield limit.name, limit.definition


def _queue_limit(lane: str) -> Limit:
    """The implicit limit of a queue. Only the leader defines it, by the slots that live workers announce."""
    return Limit(name=queue_name(lane), bound=ConcurrencyLimit(max_running=1), source="queue", base="", base_stamp=0)


def queue_name(lane: str) -> str:
    return f"queue:{lane}"


def evaluate(found: StepLimits, scope_: Mapping[str, Any]) -> LimitSet:
    """The limits with their keys. Raises ConfigurationFailure for a key that can't be used, or an unknown limit."""
    if found.problem:
        raise ConfigurationFailure(found.problem)
    if not found.keyed:
        return found.fixed
    pairs: list[tuple[Limit, str | None]] = []
    for limit in found.limits:
        value = None
        if limit.key:
            try:
                value = key_text(compile_expression(limit.key).evaluate(scope_))
            except (ExpressionError, ThrottlingError) as error:
                reason = str(error) if isinstance(error, ExpressionError) else f"`{limit.key}` {error}"
                raise ConfigurationFailure(f"The key of the limit {limit.name} can't be used: {reason}") from None
        pairs.append((limit, value))
    return LimitSet.of(pairs)


def check(step: WantsToStart, scope_: Mapping[str, Any]) -> None:
    """Before a handler starts: a step whose limits can't be found fails, and is not admitted without them."""
    if not ENABLED:
        return
    found = limits_of(step.version_id, step.key)
    if found.problem or found.keyed:
        evaluate(found, scope_ or scope.load([step.run_id], ())[step.run_id])


def requests(steps: Sequence[WantsToStart], *, leases: Mapping[UUID, str] | None = None) -> list[Request]:
    """The requests of steps; their scopes, where keys need them, are loaded by one statement.

    A step whose limits can't be found asks for its other ones only: it fails in its try, before its handler.
    `leases`: of steps that are handed back, so that they keep their places.
    """
    entries = [limits_of(step.version_id, step.key) for step in steps]
    readers = {step.run_id for step, entry in zip(steps, entries, strict=True) if entry.keyed and not entry.problem}
    scopes = scope.load(readers, ()) if readers else {}
    current = overrides.current()
    made = []
    for step, entry in zip(steps, entries, strict=True):
        limits = entry.fixed
        if step.run_id in readers and entry.keyed:
            try:
                limits = evaluate(entry, scopes[step.run_id])
            except (ConfigurationFailure, KeyError):
                limits = entry.fixed
        org_id = catalog.flow_of(step.version_id).org_id
        made.append(
            Request(
                id=str(step.id),
                limits=limits,
                tenant=str(org_id),
                lane=step.queue,
                weight=current.weight(org_id),
                head_start_s=step.priority,
                run=str(step.run_id),
                lease=(leases or {}).get(step.id, ""),
            )
        )
    return made


def slack_s(steps: Iterable[WantsToStart]) -> float:
    """How long after their stamp all of these steps may start."""
    found = (limits_of(step.version_id, step.key) for step in steps)
    return min((rate for entry in found for rate in _slacks(entry)), default=5.0)


def _slacks(entry: StepLimits) -> Iterable[float]:
    for limit in entry.limits:
        if limit.bound is not None and limit.kind in "wg":
            yield limit.bound.slack_us / 1e6  # type: ignore[union-attr]


def provider_pauses(step: WantsToStart, scope_: Mapping[str, Any]) -> tuple[str, ...]:
    """The limits that an answer's `Retry-After` pauses: the step's shared or keyed ones, else its provider's."""
    found = limits_of(step.version_id, step.key)
    if not found.keyed:
        return found.fixed.paused_by_provider
    return evaluate(found, scope_ or scope.load([step.run_id], ())[step.run_id]).paused_by_provider
