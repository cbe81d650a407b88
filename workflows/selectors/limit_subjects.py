"""Behind a limit: the override that changes it, who waits at it, and whether a shipped one holds everybody back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from throttling.answers import LimitState
from throttling.defaults import BY_TYPE, GLOBAL, SHIPPED_SIZE, SIZES
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.limits import ConcurrencyLimit, RateLimit
from throttling.models import ThrottleChange, ThrottleOverride
from throttling.names import Dimension, LimitInstance, LimitName, Scope
from workflows.engine.pipeline import admit
from workflows.models import Flow, Organization

OF_ALL = frozenset({Scope.GLOBAL, Scope.RUNS})
"""Scopes whose limits hold for all organizations: operators change them."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an override is for. `org_id`: None for all organizations."""

    scope: str
    type: str = ""
    flow: str = ""
    flow_id: UUID | None = None
    name: str = ""
    org_id: UUID | None = None

    @property
    def of_all(self) -> bool:
        return self.org_id is None

    @property
    def key(self) -> tuple[Any, ...]:
        """As the policies keep overrides."""
        return self.scope, self.type, self.flow_id, self.org_id, self.name

    @property
    def title(self) -> str:
        """In words: `the step type http_request`."""
        what = {
            "global": "all steps",
            "runs": "all runs",
            "type": f"the step type {self.type}",
            "flow": f"the flow {self.flow}",
            "org": "the organization",
            "limit": f"the shared limit {self.name}",
        }[self.scope]
        return f"{what}, of all organizations" if self.of_all and self.scope in {"type", "limit"} else what


def subject_of(organization: Organization, instance: str) -> Subject | None:
    """What to override to change a limit for an organization; None where no override changes it."""
    name = LimitInstance.parse(instance).name
    match name.scope:
        case Scope.GLOBAL | Scope.RUNS:
            return Subject(scope=str(name.scope))
        case Scope.ORG if name.org_id == organization.id:
            return Subject(scope="org", org_id=organization.id)
        case Scope.TYPE if name.org_id == organization.id:
            return Subject(scope="type", type=name.subject, org_id=organization.id)
        case Scope.LIMIT:
            return Subject(scope="limit", name=name.subject, org_id=name.org_id)
        case Scope.FLOW if name.position is None and name.flow_id is not None:
            flow = Flow.objects.filter(id=name.flow_id, organization=organization).first()
            if flow is not None:
                return Subject(scope="flow", flow=flow.slug, flow_id=flow.id, org_id=organization.id)
    return None


def why_fixed(instance: str) -> str:
    """Where a limit is changed that no override changes."""
    name = LimitInstance.parse(instance).name
    reasons = {
        Scope.QUEUE: "It is how many places the workers of the queue have: start more workers, or larger ones.",
        Scope.PROVIDER: "The provider's answer asked for this pause (Retry-After); it ends by itself.",
        Scope.PAUSE: "Somebody has asked for this pause; resume what is paused.",
        Scope.DRAIN: "Somebody has asked for this; resume what is drained.",
        Scope.STEP: "The flow's definition says it: publish a version that says another.",
        Scope.FLOW: "The flow's definition says it: publish a version that says another.",
        Scope.RUN: "The flow's definition says it: publish a version that says another.",
    }
    return reasons.get(name.scope, "An operator of the installation changes it.")


@dataclass(frozen=True, kw_only=True)
class Waiters:
    """How many of an organization wait at a limit. `slug`: empty for one that is gone."""

    slug: str
    number: int
    is_ours: bool


def waiters(organization: Organization, instance: str, *, everyone: bool) -> list[Waiters]:
    """Who waits at a limit, those with most first; without `everyone`, the others as one line without a name.

    Nothing where the store does not answer.
    """
    try:
        found = admit.gate().waiters(instance)
    except (StoreUnavailable, EpochClosed):
        return []
    ours = Waiters(slug=organization.slug, number=found.pop(organization.id.hex, 0), is_ours=True)
    if everyone:
        slugs = dict(Organization.objects.filter(id__in=[UUID(hex=id_) for id_ in found]).values_list("id", "slug"))
        others = [Waiters(slug=slugs.get(UUID(hex=id_), ""), number=n, is_ours=False) for id_, n in found.items()]
    else:
        others = [Waiters(slug="other organizations", number=sum(found.values()), is_ours=False)] if found else []
    return sorted([ours, *others], key=lambda each: -each.number)


def changes_of(subject: Subject, *, limit: int = 30) -> list[ThrottleChange]:
    """The latest changes of the override of a subject."""
    return list(ThrottleChange.objects.filter(place=str(row_of(subject))).order_by("-id")[:limit])


def row_of(subject: Subject) -> ThrottleOverride:
    """The override of a subject; a new one, which is not stored, where there is none."""
    place = {
        "scope": subject.scope, "type": subject.type, "flow_id": subject.flow_id, "org_id": subject.org_id,
        "name": subject.name,
    }  # fmt: skip
    return ThrottleOverride.objects.filter(**place).first() or ThrottleOverride(**place)


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A limit of all organizations as it is shipped, at which more wait than it lets go on."""

    scope: str
    dimension: str
    bound: str
    waiting: int


def held_back() -> HeldBack | None:
    """The shipped global limit that holds most back now; None where there is none, or the store does not answer."""
    if not admit.is_on():
        return None
    names = {LimitName(scope=scope, dimension=dimension): scope for scope in OF_ALL for dimension in Dimension}
    shipped = [name for name, scope in names.items() if _is_as_shipped(scope)]
    instances = [f"{kind}:{name}" for name in shipped for kind in _kinds(name)]
    if not instances:
        return None
    try:
        states = admit.gate().explain(instances=instances).limits
    except (StoreUnavailable, EpochClosed):
        return None
    held = [state for state in states if state.waiting > state.bound > 0]
    worst = max(held, key=lambda state: state.waiting, default=None)
    return _held(worst) if worst is not None else None


def _kinds(name: LimitName) -> str:
    return "c" if name.dimension is Dimension.CONCURRENCY else "w"


def _is_as_shipped(scope: Scope) -> bool:
    policies = admit.policies()
    if policies.override(scope) is not None:
        return False
    if scope is Scope.GLOBAL:
        return (policies.steps.concurrency, policies.steps.rate) == (GLOBAL.concurrency, GLOBAL.rate)
    places, rate = SIZES[SHIPPED_SIZE]
    return (policies.runs.concurrency, policies.runs.rate) == (places, rate)


def _held(state: LimitState) -> HeldBack:
    name = state.name
    rate = name.dimension is Dimension.RATE
    return HeldBack(
        scope=str(name.scope),
        dimension=str(name.dimension),
        bound=f"{state.bound} per {state.period_us / 1e6:g} s" if rate else f"{state.bound} at once",
        waiting=state.waiting,
    )


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values that hold for a subject by itself: what is overridden, else what is shipped or configured."""

    concurrency: int | None
    rate: RateLimit | None


def values_now(subject: Subject) -> Values:
    """Of a subject without a value, neither."""
    policies = admit.policies()
    if subject.scope == "global":
        whole = policies.globals()
        return Values(concurrency=whole.concurrency, rate=whole.rate)
    found = policies.overrides.get(subject.key)
    if subject.scope == "runs":
        rate = (found.rate if found else None) or policies.runs.rate
        return Values(concurrency=policies.run_places, rate=rate)
    if found is None and subject.scope == "type":
        found = policies.override("type", type_=subject.type)
    concurrency = found.bound(Dimension.CONCURRENCY) if found else None
    rate_bound = found.bound(Dimension.RATE) if found else None
    return Values(
        concurrency=concurrency.max_running if isinstance(concurrency, ConcurrencyLimit) else _shipped(subject)[0],
        rate=rate_bound if isinstance(rate_bound, RateLimit) else _shipped(subject)[1],
    )


def _shipped(subject: Subject) -> tuple[int | None, RateLimit | None]:
    policy = BY_TYPE.get(subject.type) if subject.scope == "type" else None
    return (policy.concurrency, policy.rate) if policy else (None, None)
