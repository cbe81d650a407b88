"""How the limits stand, and why a step waits."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from throttling.answers import Explanation, LimitState, WaitState
from throttling.defaults import BY_TYPE
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.limits import Limit
from throttling.models import ThrottleChange
from throttling.names import RATE_KINDS, STOPS, Dimension, Kind, LimitInstance, LimitName, Scope
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache
from workflows.errors import StepRunNotFound
from workflows.models import Flow, Organization, StepRun, Wait
from workflows.models.run import first_id
from workflows.steps.registry import TIMED_LANES

CLOSED = "The throttle store is away or being rebuilt: nothing starts until it is back."


@dataclass(frozen=True, kw_only=True)
class LimitLine:
    """A limit's instance and how it stands; `state` is None where the store does not answer."""

    instance: str
    what: str
    source: str
    bound: str
    state: LimitState | None


def overview(organization: Organization) -> list[LimitLine]:
    """The limits that steps of this organization may meet, and every one that somebody of it waits for."""
    limits = {limit.instance(): limit for limit in _known_limits(organization)}
    try:
        known = dict(limit.stored for limit in limits.values() if limit.is_defined)
        found = admit.gate().explain(instances=limits, everything=True, definitions=known).limits
    except (StoreUnavailable, EpochClosed):
        return [_line(instance, limit, None) for instance, limit in limits.items()]
    others = [state.name for state in found if state.instance not in limits]
    named = {name.flow_id for name in others if name.flow_id and name.scope not in STOPS}
    own = set(Flow.objects.filter(organization=organization, id__in=named).values_list("id", flat=True))
    return [
        _line(state.instance, limits.get(state.instance), state)
        for state in found
        if state.instance in limits or _concerns(state.name, organization, own)
    ]


def _known_limits(organization: Organization) -> Iterable[Limit]:
    """Without a key: those of all flows, and of all step types."""
    seen: set[LimitName] = set()
    flows = Flow.objects.filter(organization=organization, archived_at=None, current__isnull=False)
    current = flows.values_list("current_id", flat=True)
    for compiled in flow_cache.load(current).flows.values():
        for key in compiled.steps:
            for limit in admit.limits_of(compiled.version_id, key).limits:
                if not limit.key and limit.name not in seen and limit.bound is not None:
                    seen.add(limit.name)
                    yield limit


def _line(instance: str, limit: Limit | None, state: LimitState | None) -> LimitLine:
    bound = _bound(state) if state else (str(limit.bound.value) if limit and limit.bound else "")
    return LimitLine(
        instance=instance,
        what=describe(instance),
        source=limit.source if limit else LimitInstance.parse(instance).name.first_part,
        bound=bound,
        state=state,
    )


def _bound(state: LimitState) -> str:
    if state.kind == Kind.CONCURRENCY:
        return f"{state.bound} at once"
    if state.kind == Kind.PAUSE:
        return "until the pause ends"
    return f"{state.bound} per {_duration(state.period_us / 1e6)}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"


def _concerns(name: LimitName, organization: Organization, own: Collection[UUID]) -> bool:
    """Whether a limit is of the organization or of all of them. `own`: flows of the organization."""
    if name.flow_id and name.scope not in STOPS:
        return name.flow_id in own
    return name.scope is not Scope.UNKNOWN and name.org_id in {None, organization.id}


def describe(instance: str) -> str:
    """A limit for people: "the concurrency limit of step type http_request"."""
    parsed = LimitInstance.parse(instance)
    name = parsed.name
    dimension = Dimension.RATE if parsed.kind in RATE_KINDS else Dimension.CONCURRENCY
    value = f" for {parsed.key!r}" if parsed.key else ""
    match name.scope:
        case Scope.PAUSE | Scope.DRAIN:
            return f"the {name.scope} of {_stopped(name)}"
        case Scope.QUEUE:
            return f"the places in the queue {name.subject}"
        case Scope.PROVIDER:
            return f"the pause that {name.subject} asked for"
        case Scope.LIMIT:
            return f"the {dimension} of the shared limit {name.subject!r}{value}"
        case Scope.TYPE:
            strict = "critical steps of type" if name.critical else "step type"
            return f"the {dimension} limit of {strict} {name.subject}{value}"
        case Scope.STEP:
            return f"the {dimension} limit of step {name.subject}{value}"
    subject = {
        Scope.GLOBAL: f"the global {dimension} limit",
        Scope.RUNS: f"the {dimension} limit of all runs",
        Scope.RUN: f"the {dimension} limit of the flow's runs",
        Scope.FLOW: f"the {dimension} limit of the flow",
        Scope.ORG: f"the {dimension} limit of the organization",
    }
    return subject.get(name.scope, f"the limit {name}") + value


def _stopped(name: LimitName) -> str:
    """The subject of a pause or drain."""
    return "the flow" if name.flow_id else f"the queue {name.subject}" if name.subject else "the organization"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a step has not started: the sentence, and its parts (all empty where it waits for no limit)."""

    sentence: str
    limit: str = ""
    instance: str = ""
    used: int = 0
    bound: int = 0
    place: int = 0
    of_tenant: int = 0
    ahead: int = 0
    waiting: int = 0
    expected_in_s: float | None = None
    waited_s: float = 0.0
    plain: str = ""
    """The sentence without its time, where it has one."""
    until: dt.datetime | None = None
    until_word: str = ""
    """What `until` is: the time of the next try or of waking, or a deadline."""

    @property
    def is_global(self) -> bool:
        """Whether it waits for a limit of all steps, of all organizations."""
        return bool(self.instance) and LimitInstance.parse(self.instance).name.scope is Scope.GLOBAL


UNTIL = {"retry": "next try", "sleep": "wakes", "delay": "starts"}
"""What the time of a wait is; that of all others is a deadline."""


def explain(organization: Organization, step_run_id: UUID) -> Reason:
    """Why a step waits. Raises StepRunNotFound."""
    row = StepRun.objects.filter(org_id=organization.id, id=step_run_id).first()
    if row is None:
        raise StepRunNotFound
    return reason_of(row)


def reason_of(row: StepRun) -> Reason:
    """Why this step waits, by its state and what the gate knows of it."""
    if row.status == "pending":
        return Reason(sentence=f"Waits for the steps that it needs: {row.needs_left} of {row.needs_total} are open.")
    if row.status == "waiting":
        what = {
            "retry": "its next try",
            "sleep": "the end of its sleep",
            "delay": "the start of its run",
            "event": "an event from outside",
            "approval": "a person's decision",
            "run": "the end of the run that it started",
            "items": "its items",
            "steps": "steps that its code has asked for",
            "pause": "the end of a pause: its container's, or until a worker can take it",
        }
        if row.waiting_for == "event":
            what["event"] = _awaited_event(row)
        plain = f"Waits for {what.get(row.waiting_for, row.waiting_for)}"
        word = UNTIL.get(row.waiting_for, "deadline")
        if row.wake_at is None:
            return Reason(sentence=f"{plain}.", plain=f"{plain}.")
        at = f"{'at' if word != 'deadline' else 'deadline'} {row.wake_at:%Y-%m-%d %H:%M:%S} UTC"
        return Reason(sentence=f"{plain}, {at}.", plain=f"{plain}.", until=row.wake_at, until_word=word)
    if row.status != "ready":
        return Reason(sentence=f"Does not wait: it is {row.status}.")
    if not admit.is_on():
        return Reason(sentence="Waits for a worker: flow control is switched off.")
    try:
        return from_gate(admit.gate().explain(row.id.hex), row)
    except (StoreUnavailable, EpochClosed):
        return Reason(sentence=CLOSED)


def _awaited_event(row: StepRun) -> str:
    """What a waiting step waits for, in words."""
    wait = Wait.objects.filter(step_run_id=row.id).first()
    if wait is None or wait.options.get("callback"):
        return "a call of its address" if wait else "an event"
    where = f" with the same {wait.match_path}" if wait.match_path else ""
    return f"the event {wait.event_name}{where}"


def from_gate(found: Explanation, row: StepRun) -> Reason:
    """The gate's answer in words."""
    if found.wait is None:
        if found.permit in {"r", "L"}:
            return Reason(sentence=f"Has its permits, and is on its way to a worker of the queue {row.queue}.")
        return Reason(
            sentence=f"Has its place in the queue {row.queue}; it asks for its permits when a worker takes it."
        )
    wait = found.wait
    state = next(each for each in found.limits if each.instance == wait.instance)
    used = state.started + state.in_use if state.kind == Kind.WINDOW else state.in_use
    expected = expected_in_s(state, wait)
    return Reason(
        sentence=_sentence(state, wait, used, expected),
        limit=describe(wait.instance),
        instance=wait.instance,
        used=used,
        bound=state.bound,
        place=wait.place,
        of_tenant=wait.of_tenant,
        ahead=wait.ahead,
        waiting=state.waiting,
        expected_in_s=expected,
        waited_s=wait.since_s,
    )


def _sentence(state: LimitState, wait: WaitState, used: int, expected: float | None) -> str:
    if state.name.scope is Scope.QUEUE and state.bound == 0:
        return f"Waits for a worker: none serves the queue {state.name.subject}."
    if state.name.scope in STOPS:
        return f"Waits for the end of {describe(wait.instance)}; it was asked for, and `resume` ends it."
    if state.paused_s is not None:
        return (
            f"Waits for {describe(state.instance)}: paused for another {_duration(state.paused_s)}, "
            f"{wait.place} of {wait.of_tenant} in line."
        )
    when = f"; expected to start in about {_duration(expected)}" if expected is not None else ""
    others = f", {wait.ahead} of all come first" if wait.tenants > 1 else ""
    return (
        f"Waits for {describe(state.instance)}: {used} of {_bound(state)} in use, "
        f"{wait.place} of {wait.of_tenant} in line{others}{when}.{_kept_free(state)}"
    )


def _kept_free(state: LimitState) -> str:
    """Why a step waits although there is a place: only where that place is another organization's to take."""
    shared = state.name.scope is Scope.QUEUE and state.name.subject in TIMED_LANES
    return " One place is kept free of each organization." if shared and state.in_use < state.bound else ""


def expected_in_s(state: LimitState, wait: WaitState) -> float | None:
    """When the step may start, by how many come first: for rates exact, else by how long permits were held lately."""
    if state.bound < 1:
        return None
    if state.kind in RATE_KINDS:
        first = state.next_free_s or 0.0
        return first + (wait.ahead // state.bound) * state.period_us / 1e6
    if state.mean_hold_s <= 0:
        return None
    return (wait.ahead + 1) * state.mean_hold_s / state.bound


_REPORT = """
SELECT s.type, count(*) AS tries, avg(extract(epoch FROM a.started_at - a.ready_at)) * 1000 AS mean,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM a.started_at - a.ready_at)) * 1000 AS p95,
       max(extract(epoch FROM a.started_at - a.ready_at)) * 1000 AS longest,
       sum(extract(epoch FROM a.started_at - a.ready_at)) AS total,
       avg(extract(epoch FROM a.ended_at - a.started_at)) * 1000 AS duration,
       count(*) FILTER (WHERE a.status = 'failed') AS failed
  FROM headrace_workflows_attempt a JOIN headrace_workflows_steprun s ON s.id = a.step_run_id
 WHERE a.org_id = %(org)s AND a.id >= %(first)s AND a.started_at IS NOT NULL AND a.ready_at IS NOT NULL
 GROUP BY s.type ORDER BY total DESC
"""


def report(organization: Organization, *, since_s: float = 3_600.0) -> list[dict[str, Any]]:
    """Which step types lost most time to their limits lately; times in milliseconds (`totalOverhead` in seconds)."""
    first = first_id(time.time() - since_s)
    with connection.cursor() as cursor:
        cursor.execute(_REPORT, {"org": organization.id, "first": first})
        rows = cursor.fetchall()
    return [
        {
            "stepType": row[0],
            "tries": row[1],
            "averageThrottlingOverhead": round(float(row[2]), 1),
            "p95ThrottlingOverhead": round(float(row[3]), 1),
            "longestThrottlingOverhead": round(float(row[4]), 1),
            "totalOverhead": round(float(row[5]), 1),
            "averageDuration": round(float(row[6] or 0), 1),
            "failedTries": row[7],
        }
        for row in rows
    ]


def never_binding(organization: Organization) -> list[str]:
    """Shipped concurrency limits that can't bind, since the global one is lower."""
    whole = admit.policies().globals().concurrency
    return [
        f"concurrency {policy.concurrency} of {name} never binds under the global {whole}"
        for name, policy in BY_TYPE.items()
        if policy.concurrency > whole
    ]


def history(organization: Organization, *, everyone: bool = False, limit: int = 100) -> list[ThrottleChange]:
    """The latest changes of overrides that concern the organization (or all)."""
    changes = ThrottleChange.objects.all()
    if not everyone:
        changes = changes.filter(org_id=organization.id) | changes.filter(org_id=None)
    return list(changes.order_by("-id")[:limit])
