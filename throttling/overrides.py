"""The overrides: read as one snapshot per process, written with their history, effective at once everywhere."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Max

from throttling.defaults import BY_TYPE, SHIPPED_SIZE
from throttling.environment import global_run_policy
from throttling.errors import ThrottlingError
from throttling.limits import Algorithm, RateLimit, checked_limit, checked_weight, usable_weight
from throttling.models import DefaultSize, ThrottleChange, ThrottleOverride
from throttling.names import DIMENSIONS, STOPS, Dimension
from throttling.policy import SCOPES, Override, Policies
from throttling.retry import BackoffKind, RetryPolicy

_CHANGE_LOCK = 0x48454144
_FIELDS = (
    "concurrency", "rate_limit", "rate_period_ms", "rate_algorithm", "rate_burst", "key", "max_attempts", "backoff",
    "delay_ms", "max_delay_ms", "weight", "note",
)  # fmt: skip


class Snapshot:
    """The policies that a process goes by: the overrides of one moment, loaded at first use."""

    def __init__(self, policies: Policies | None = None) -> None:
        """`policies`: those to begin with, whatever the tables say."""
        self._lock = threading.Lock()
        self._policies = policies

    def current(self) -> Policies:
        """The policies as the process knows them."""
        return self._policies or self.reload()

    def reload(self) -> Policies:
        """Read all overrides anew."""
        with self._lock:
            self._policies = load()
            return self._policies

    def refresh_if_stale(self, revision: int) -> bool:
        """Read the overrides anew where the store names a later revision than the process has. True where it did."""
        if revision <= self.current().revision:
            return False
        self.reload()
        return True


def load() -> Policies:
    """The overrides of one moment. The revision is read first: so a change is read twice rather than never."""
    revision = latest_revision()
    overrides = [as_override(row) for row in ThrottleOverride.objects.all()]
    runs = global_run_policy(default_size())
    return Policies(runs=runs, overrides={override.subject: override for override in overrides}, revision=revision)


def default_size() -> str:
    """The size that holds where the environment names none; that of a new database where its row was flushed."""
    return DefaultSize.objects.values_list("size", flat=True).first() or SHIPPED_SIZE


def latest_revision() -> int:
    """The id of the last change."""
    return int(ThrottleChange.objects.aggregate(last=Max("id"))["last"] or 0)


def as_override(row: ThrottleOverride) -> Override:
    """The row as the policy reads it. Raises ThrottlingError for values that can't be used."""
    rate = None
    if row.rate_limit is not None and row.rate_period_ms is not None:
        rate = RateLimit(
            max_executions=row.rate_limit,
            per_ms=row.rate_period_ms,
            algorithm=Algorithm(row.rate_algorithm),
            burst=row.rate_burst,
        )
    return Override(
        scope=row.scope,
        type=row.type,
        flow_id=row.flow_id,
        org_id=row.org_id,
        name=row.name,
        concurrency=row.concurrency,
        rate=rate,
        key=row.key,
        max_attempts=row.max_attempts,
        backoff=BackoffKind(row.backoff) if row.backoff else None,
        delay_ms=row.delay_ms,
        max_delay_ms=row.max_delay_ms,
        weight=row.weight,
    )


def check(row: ThrottleOverride) -> None:
    """Raises ThrottlingError with what is wrong and what to do."""
    wanted = {"type": "type", "flow": "flow_id", "org": "org_id", "limit": "name"}
    if row.scope in STOPS:
        _check_stop(row)
        return
    if row.scope not in SCOPES:
        raise ThrottlingError(f"scope {row.scope!r} is unknown; use {', '.join(SCOPES)}")
    needed = wanted.get(row.scope)
    if needed and not getattr(row, needed):
        raise ThrottlingError(f"an override of scope {row.scope} needs {needed.removesuffix('_id')}")
    for name in ("type", "flow_id", "name"):
        if name != needed and getattr(row, name):
            raise ThrottlingError(f"an override of scope {row.scope} takes no {name.removesuffix('_id')}")
    if row.scope in {"global", "runs"} and row.org_id:
        raise ThrottlingError(f"an override of scope {row.scope} holds for all organizations")
    if row.scope in {"global", "runs"} and row.key:
        raise ThrottlingError(f"an override of scope {row.scope} takes no key")
    if row.concurrency is not None:
        checked_limit(row.concurrency, "concurrency")
    if (row.rate_limit is None) != (row.rate_period_ms is None):
        raise ThrottlingError("a rate needs both limit and period")
    if row.weight is not None:
        if row.scope != "org":
            raise ThrottlingError("weight belongs to an override of scope org")
        checked_weight(row.weight)
    override = as_override(row)
    retry = (override.max_attempts, override.backoff, override.delay_ms, override.max_delay_ms)
    if any(value is not None for value in retry):
        if row.scope not in {"global", "type", "flow"}:
            raise ThrottlingError("retries are overridden for scope global, type or flow")
        override.retry(RetryPolicy(max_attempts=3, backoff=BackoffKind.EXPONENTIAL, delay_ms=0))
    if row.concurrency is None and row.rate_limit is None and row.weight is None and all(v is None for v in retry):
        raise ThrottlingError("an override changes something: give concurrency, rate, retry or weight")
    if row.scope == "limit" and row.concurrency is None and row.rate_limit is None:
        raise ThrottlingError("a shared limit has concurrency, rate, or both")


def _check_stop(row: ThrottleOverride) -> None:
    if not (row.flow_id or row.org_id or row.name) or (row.name and (row.flow_id or row.org_id)):
        raise ThrottlingError(f"a {row.scope} is of a flow, of an organization, or of a queue (name)")
    given = (row.type, row.concurrency, row.rate_limit, row.max_attempts, row.delay_ms, row.weight)
    if any(value not in (None, "") for value in given):
        raise ThrottlingError(f"a {row.scope} takes no values")
    if row.scope == "drain" and row.name:
        raise ThrottlingError("a queue has no runs to drain: pause it")


def values(row: ThrottleOverride) -> dict[str, Any]:
    """The fields of a row, for the history."""
    return {name: getattr(row, name) for name in _FIELDS}


def put(row: ThrottleOverride, *, by: str, keep_weight: bool = False) -> bool:
    """Store an override in place of the one for the same subject. True where it changes which limits apply.

    `keep_weight`: the weight of the one before stays, whatever the row says. (It is read here, under the lock: else two
    changes at once could drop it.)
    Raises ThrottlingError where it can't be used. Nothing is stored then.
    """
    check(row)
    with transaction.atomic():
        _serialise()
        found = ThrottleOverride.objects.filter(
            scope=row.scope, type=row.type, flow_id=row.flow_id, org_id=row.org_id, name=row.name
        ).first()
        before = values(found) if found else None
        old = as_override(found) if found else None
        if keep_weight:
            row.weight = _weight_of(found)
        row.pk = found.pk if found else None
        row.changed_by = by
        try:
            row.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            raise ThrottlingError("; ".join(error.messages)) from None
        row.save(force_insert=found is None)
        ThrottleChange.objects.create(by=by, place=str(row), org_id=row.org_id, before=before, after=values(row))
    return changes_limits(old, as_override(row))


def _weight_of(row: ThrottleOverride | None) -> float | None:
    """The weight of a stored row, as it may be stored today; None where it has none."""
    return usable_weight(row.weight) if row and row.weight is not None else None


def delete(row: ThrottleOverride, *, by: str, keep_weight: bool = False) -> bool:
    """Remove an override. True where that changes which limits apply. `keep_weight`: its weight stays, alone."""
    with transaction.atomic():
        _serialise()
        weight = _weight_of(ThrottleOverride.objects.filter(pk=row.pk).first()) if keep_weight else None
        if weight is not None:
            return put(ThrottleOverride(scope=row.scope, org_id=row.org_id, weight=weight, note=row.note), by=by)
        ThrottleChange.objects.create(by=by, place=str(row), org_id=row.org_id, before=values(row), after=None)
        old = as_override(row)
        ThrottleOverride.objects.filter(pk=row.pk).delete()
    return changes_limits(old, None)


def _serialise() -> None:
    """One change at a time, so that a later revision has seen the earlier ones."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_CHANGE_LOCK,))


def changes_limits(old: Override | None, new: Override | None) -> bool:
    """Whether limits come or go (or are keyed or counted otherwise), rather than change their values."""
    scope = (old or new).scope  # type: ignore[union-attr]
    if scope in STOPS:
        return (old is None) != (new is None)
    made = scope in {"runs", "flow", "org", "limit"} or (
        scope == "type" and (old or new).type not in BY_TYPE  # type: ignore[union-attr]
    )
    is_type = scope == "type"
    for dimension in DIMENSIONS:
        before, after = (each.bound(dimension) if each else None for each in (old, new))
        if (made or (is_type and dimension == Dimension.CONCURRENCY)) and (before is None) != (after is None):
            return True
        if _algorithm(before) != _algorithm(after):
            return True
    return (old.key if old else "") != (new.key if new else "")


def _algorithm(bound: Any) -> Algorithm:
    return bound.algorithm if isinstance(bound, RateLimit) else Algorithm.WINDOW


def find(
    scope: str, *, type_: str = "", flow_id: UUID | None = None, org_id: UUID | None = None, name: str = ""
) -> ThrottleOverride | None:
    """The row for a subject."""
    return ThrottleOverride.objects.filter(scope=scope, type=type_, flow_id=flow_id, org_id=org_id, name=name).first()
