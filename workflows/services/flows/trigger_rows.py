"""The rows of a flow's triggers, changed in place when a version is published.

A trigger keeps its row over all versions (`definitions/trigger_identity.py` says which is which), and with it its
address, whether it is on, and its place in its schedule. So no event misses its trigger while versions are exchanged.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

from django.db.models import Q
from django.utils import timezone

from workflows.definitions import trigger_identity
from workflows.definitions.schema import FlowSpec
from workflows.definitions.trigger_identity import Face, Known
from workflows.definitions.triggers import TriggerSpec
from workflows.definitions.validate import DefinitionProblems, Problem
from workflows.models import Flow, Trigger

KEPT_FOR = dt.timedelta(days=30)
"""How long a removed trigger keeps its address, and whether it is on."""
SHOWN_TOKEN = 6
CHANGED = ("key", "named", "kind", "event_name", "condition", "config", "token", "fires_from", "position", "removed_at")


def exchange(flow: Flow, spec: FlowSpec) -> None:
    """Make the rows those of a definition, in the caller's transaction, under the lock of the flow.

    Raises DefinitionProblems where it can't be told which trigger is which.
    """
    now = timezone.now()
    forget_removed(flow, now)
    rows = {row.id: row for row in _in_order(flow, lock=True)}
    pairing = trigger_identity.pair(spec.on, [_known(row) for row in rows.values()])
    _refuse(pairing)
    taken = {known.key for known in pairing.known if known is not None} | {each.id for each in spec.on if each.id}
    taken |= {row.key for row in rows.values()}
    changed: list[Trigger] = []
    new: list[Trigger] = []
    for position, (wanted, known) in enumerate(zip(spec.on, pairing.known, strict=True)):
        row = rows.pop(known.row_id) if known else Trigger(organization=flow.organization, flow=flow, token="")
        key = wanted.id or (known.key if known else trigger_identity.made_key(trigger_identity.face_of(wanted), taken))
        taken.add(key)
        _write(row, wanted, key=key, position=position)
        (changed if known else new).append(row)
    gone = [row for row in rows.values() if row.removed_at is None]
    for row in gone:
        row.removed_at, row.position = now, None
    _free_keys(list(rows.values()), {row.key for row in (*changed, *new)}, taken)
    Trigger.including_removed.bulk_update([*changed, *rows.values()], CHANGED)
    Trigger.objects.bulk_create(new)


def problems(flow: Flow | None, spec: FlowSpec) -> list[Problem]:
    """Why a definition can't be published over what is there: which trigger is which can't be told."""
    known = [_known(row) for row in _in_order(flow)] if flow is not None else []
    return _problems(trigger_identity.pair(spec.on, known))


def forget_removed(flow: Flow, now: dt.datetime) -> None:
    """Delete the triggers of a flow that were removed more than 30 days ago."""
    Trigger.including_removed.filter(flow=flow, removed_at__lt=now - KEPT_FOR).delete()


def _problems(pairing: trigger_identity.Pairing) -> list[Problem]:
    return [Problem(path=path, reason=reason) for path, reason in pairing.problems]


def _refuse(pairing: trigger_identity.Pairing) -> None:
    if pairing.problems:
        raise DefinitionProblems(_problems(pairing))


def _in_order(flow: Flow, *, lock: bool = False) -> list[Trigger]:
    """Those of the version before in its order, then the removed ones, the latest first."""
    found = Trigger.including_removed.filter(flow=flow)
    found = found.filter(Q(removed_at=None) | Q(removed_at__gte=timezone.now() - KEPT_FOR))
    rows = list((found.select_for_update(of=("self",)) if lock else found).order_by("id"))
    return sorted(rows, key=lambda row: (row.removed_at is not None, row.position or 0, row.id))


def _known(row: Trigger) -> Known:
    return Known(
        row_id=row.id,
        key=row.key,
        named=row.named,
        face=_face(row),
        enabled=row.enabled,
        is_removed=row.removed_at is not None,
        place=_place(row),
    )


def _face(row: Trigger) -> Face:
    config: dict[str, Any] = row.config
    if row.kind == Trigger.Kind.CRON:
        return Face(kind="cron", name=config["timezone"], detail=(config["schedule"],))
    detail = (config["webhook"], config.get("secret") or "") if row.kind == Trigger.Kind.WEBHOOK else ()
    return Face(kind=row.kind, name=row.event_name, detail=detail)


def _place(row: Trigger) -> str:
    """By what a person knows a trigger; of an address the beginning only, since it is a secret."""
    parts = ["on" if row.enabled else "switched off", f"if {row.condition}" if row.condition else ""]
    if row.kind == Trigger.Kind.WEBHOOK:
        parts.append(f"/hooks/{row.token[:SHOWN_TOKEN]}…, secret {row.config.get('secret') or 'none'}")
    elif row.kind == Trigger.Kind.CRON:
        parts.append(row.config["schedule"])
    parts.append("removed" if row.removed_at else "")
    return ", ".join(part for part in parts if part)


def _write(row: Trigger, wanted: TriggerSpec, *, key: str, position: int) -> None:
    """Make a row what an entry of `on` says. Whether it is on stays, its address too."""
    config = _config(wanted)
    same_times = row.config.get("schedule") == wanted.cron and row.config.get("timezone") == wanted.timezone
    if row.removed_at is not None or not same_times:
        row.fires_from = None  # a schedule that is new, or back, begins now
    row.key, row.named, row.position, row.removed_at = key, wanted.id is not None, position, None
    row.kind, row.event_name, row.condition = wanted.kind, wanted.event_name, wanted.condition or ""
    row.config = config
    if wanted.webhook is not None and not row.token:
        row.token = secrets.token_urlsafe(24)


def _config(wanted: TriggerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if wanted.webhook is not None:
        config = {
            "webhook": wanted.webhook,
            "secret": wanted.secret,
            "signature_header": wanted.signature_header,
            "signature_prefix": wanted.signature_prefix,
            "id_header": wanted.id_header,
            "tolerance_ms": wanted.tolerance,
            "transform": wanted.transform,
        }
    if wanted.cron is not None:
        config = {
            "schedule": wanted.cron,
            "timezone": wanted.timezone,
            "overlap": wanted.overlap,
            "catch_up": wanted.catch_up,
            "jitter_ms": wanted.jitter,
        }
    elif wanted.match:
        config["match"] = wanted.match
    more = {"delay_ms": wanted.delay, "run_at": wanted.run_at, "dedup_ms": wanted.dedup}
    return config | {name: value for name, value in more.items() if value is not None}


def _free_keys(left: list[Trigger], used: set[str], taken: set[str]) -> None:
    """A made id of a trigger that is left, and that another one says now, becomes another made one."""
    for row in left:
        if row.key in used:
            row.key, row.named = trigger_identity.made_key(_face(row), taken), False
            taken.add(row.key)
