"""Runs that ended long ago, and passes over one organization."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any
from uuid import UUID

import uuid6
from django.utils import timezone

from tests.support.by_hand import NO, claim, end, start
from workflows.engine.retention.walking import Walk, Wanted
from workflows.models import Event, Organization, Run
from workflows.models.run import first_id

NOOP = {"id": "a", "type": "noop"}
SLEEP = {"id": "a", "type": "delay", "config": {"for": "1h"}}
LONG_AGO = dt.timedelta(days=40)


def ended(org: Organization, steps: list[dict[str, Any]] | None = None, *, ago: Any = LONG_AGO, **more: Any) -> UUID:
    """A run of one step that completed so long ago."""
    run_id = start(org, steps or [NOOP], **more)
    end(claim(run_id, "a"))
    return aged(run_id, ago)


def failed(org: Organization, *, ago: Any = LONG_AGO, **more: Any) -> UUID:
    """One that failed; its dead letter is open."""
    run_id = start(org, [NOOP], **more)
    end(claim(run_id, "a"), error=NO)
    return aged(run_id, ago)


def aged(run_id: UUID, ago: dt.timedelta = LONG_AGO) -> UUID:
    """An ended run ended so long ago."""
    at = timezone.now() - ago
    assert Run.objects.filter(id=run_id).exclude(ended_at=None).update(ended_at=at, created_at=at)
    return run_id


def old_event(org: Organization, name: str = "shop/old", *, ago: dt.timedelta = LONG_AGO, **more: Any) -> UUID:
    """An event that was matched long ago."""
    at = timezone.now() - ago
    id_ = UUID(int=first_id(at.timestamp()).int + uuid6.uuid7().int % 2**70)
    Event.objects.create(
        **{"id": id_, "org_id": org.id, "name": name, "ts": at, "received_at": at, "matched_at": at, **more}
    )
    return id_


def prune(org: Organization, **wanted: Any) -> tuple[Counter[str], Counter[str]]:
    """A whole pass over one organization. Returns rows by table, and what was kept by reason."""
    deleted: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for piece in Walk(Wanted(org_ids=[org.id], **wanted), now=timezone.now()).pieces():
        deleted.update(piece.deleted)
        held.update(piece.held)
    return +deleted, +held
