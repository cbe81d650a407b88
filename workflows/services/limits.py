"""Changing limits live: overrides are checked, stored, and told to every process."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from throttling import overrides
from throttling.errors import EpochClosed, StoreUnavailable, ThrottlingError
from throttling.models import ThrottleChange, ThrottleOverride
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit
from workflows.errors import FlowNotFound, InvalidInput, TooManyChanges
from workflows.expressions import check_bounds, compile_expression
from workflows.models import Flow, Organization
from workflows.services.access import changes
from workflows.steps.registry import REGISTRY

MAX_CHANGES = 10
CHANGES_WITHIN_S = 10.0
KEY_NAMES = frozenset({"event", "input", "org"})


def put_limit(
    row: ThrottleOverride,
    *,
    by: str,
    instead_of: ThrottleOverride | None = None,
    keep_weight: bool = False,
    for_quota: bool = False,
) -> ThrottleOverride:
    """Store an override; it holds on all workers within a second. Raises InvalidInput with what to do.

    `instead_of`: the one that was edited; where it was for another subject, it is removed. `keep_weight`: the caller is
    no operator, so the weight that an operator gave the organization stays. `for_quota`: an operator sets the quota
    that this limit is, however many changes the organization has made.
    """
    if not for_quota:
        check_pace(row.org_id)
    try:
        with transaction.atomic():
            _keep_below_quota(row)
            check_limit(row)
            structural = False
            if (
                instead_of is not None
                and overrides.as_override(instead_of).subject != overrides.as_override(row).subject
            ):
                structural = overrides.delete(instead_of, by=by)
            before = _values_of(row)
            structural = overrides.put(row, by=by, keep_weight=keep_weight) or structural
            changes.tell(before, overrides.values(row))
    except ThrottlingError as error:
        raise InvalidInput(str(error)) from None
    announce(structural)
    return row


def _values_of(row: ThrottleOverride) -> dict[str, Any]:
    """The values that are stored for the subject of a row; empty where there are none."""
    found = overrides.find(row.scope, type_=row.type, flow_id=row.flow_id, org_id=row.org_id, name=row.name)
    return overrides.values(found) if found is not None else {}


def check_pace(org_id: UUID | None) -> None:
    """Refuse the change where the organization has made too many of late: each one stops all starts for a moment.

    Raises TooManyChanges.
    """
    if org_id is None:
        return
    since = timezone.now() - dt.timedelta(seconds=CHANGES_WITHIN_S)
    if ThrottleChange.objects.filter(org_id=org_id, at__gt=since).count() >= MAX_CHANGES:
        raise TooManyChanges


def delete_limit(row: ThrottleOverride, *, by: str, keep_weight: bool = False, for_quota: bool = False) -> None:
    """Remove an override: the shipped, configured or defined value holds again. `keep_weight`: its weight stays. Of an
    organization with a quota of steps at once, that quota stays as its limit. `for_quota`: as `put_limit` has it."""
    if row.scope == "org" and row.org_id is not None and quota_of_steps(row.org_id) is not None:
        put_limit(ThrottleOverride(scope="org", org_id=row.org_id), by=by, keep_weight=keep_weight)
        return
    if not for_quota:
        check_pace(row.org_id)
    before = _values_of(row)
    announce(overrides.delete(row, by=by, keep_weight=keep_weight))
    changes.tell(before, _values_of(row))


def quota_of_steps(org_id: UUID) -> int | None:
    """How many steps the organization may have at once, whatever its own limit says; None: any number."""
    return Organization.objects.filter(id=org_id).values_list("concurrent_steps", flat=True).first()


def _keep_below_quota(row: ThrottleOverride) -> None:
    """The organization's own limit is at most its quota; without one of its own, the quota is its limit.

    Quota and limit change one after the other. Raises InvalidInput.
    """
    if row.scope != "org" or row.org_id is None:
        return
    owner = Organization.objects.select_for_update().filter(id=row.org_id).first()
    quota = owner.concurrent_steps if owner is not None else None
    if quota is None:
        return
    if row.key:
        raise InvalidInput(
            f"The organization has a quota of {quota:,} steps at once: its own limit takes no key, since that would be "
            "a limit for each value. Give a flow the keyed limit."
        )
    if row.concurrency is not None and row.concurrency > quota:
        raise InvalidInput(
            f"concurrency={row.concurrency:,} is above the organization's quota of {quota:,} steps at once: set it to "
            f"1…{quota:,}, or ask an operator for another quota."
        )
    row.concurrency = row.concurrency or quota


def check_limit(row: ThrottleOverride) -> None:
    """Raises ThrottlingError or WorkflowsError where the override can't be used."""
    _check_subject(row)
    overrides.check(row)


def _check_subject(row: ThrottleOverride) -> None:
    """What the override is for must exist."""
    if row.scope == "type" and row.type not in REGISTRY:
        raise InvalidInput(f"type {row.type!r} is no step type; there are {', '.join(sorted(REGISTRY))}.")
    if row.flow_id is not None:
        flow = Flow.objects.filter(id=row.flow_id).first()
        if flow is None:
            raise FlowNotFound(f"There is no flow {row.flow_id}: an override needs one that exists.")
        row.org_id = flow.organization_id
    if row.org_id is not None and not Organization.objects.filter(id=row.org_id).exists():
        raise InvalidInput(f"There is no organization {row.org_id}.")
    if row.key:
        check_bounds(compile_expression(row.key, KEY_NAMES, owner=row.org_id, is_key=True))


def announce(structural: bool) -> None:
    """Tell the store, once the open transaction is committed. Where it is away, the leader does it later; the row is
    what counts."""
    transaction.on_commit(lambda: _announce(structural), robust=True)


def _announce(structural: bool) -> None:
    admit.snapshot().reload()
    if not admit.is_on():
        return
    try:
        if structural:
            gate_sync.begin_anew()
        else:
            gate_sync.bring_policies()
    except (StoreUnavailable, EpochClosed):
        return


def find_limit(
    organization: Organization | None, scope: str, *, type_: str = "", flow: str = "", name: str = ""
) -> Any:
    """The override for a subject, of an organization or (None) for all."""
    flow_id = flow_of(organization, flow).id if flow else None
    org_id = organization.id if organization and scope not in {"global", "runs"} else None
    return overrides.find(scope, type_=type_, flow_id=flow_id, org_id=org_id, name=name)


def flow_of(organization: Organization | None, slug: str) -> Flow:
    """The flow of a slug; without an organization, the only one of any. Raises FlowNotFound, InvalidInput."""
    flows = Flow.objects.filter(slug=slug)
    found = list((flows.filter(organization=organization) if organization else flows)[:2])
    if not found:
        raise FlowNotFound(f"There is no flow {slug!r}: an override needs one that exists.")
    if len(found) > 1:
        raise InvalidInput(f"Several organizations have a flow {slug!r}: set its limit in each one.")
    return found[0]


def overrides_for(organization: Organization) -> list[ThrottleOverride]:
    """The overrides that concern an organization: its own, and those for all."""
    rows = ThrottleOverride.objects.filter(org_id=organization.id) | ThrottleOverride.objects.filter(org_id=None)
    return list(rows.order_by("scope", "type", "name"))
