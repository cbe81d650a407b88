"""The audit log of the admin: what a page has saved or deleted, and what an action has done."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from workflows.models import AuditEntry
from workflows.services.access import audit

MOST_IDS = 50
MOST_ROWS = 1_000


def written(request: HttpRequest, page: Any, verb: str, rows: Iterable[Any], message: Any = None) -> None:
    """An entry for each row that was added, changed or deleted, in the transaction of the page."""
    opts = page.opts
    for row in list(rows)[:MOST_ROWS]:
        audit.record(
            page.owner_of(row),
            audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username()),
            f"admin.{opts.model_name}.{verb}",
            kind=opts.verbose_name,
            id=row.pk,
            details={"row": str(row), **_changed(message)},
        )


def _changed(message: Any) -> dict[str, Any]:
    """The names of the fields that Django says were changed."""
    if isinstance(message, str) and message.startswith("["):
        message = json.loads(message)
    return {"changed": message} if message else {}


def action(request: HttpRequest, page: Any, rows: Iterable[Any]) -> None:
    """An entry for each organization with those rows of it that the action was done to; the rows have transactions of
    their own."""
    by_owner: dict[UUID | None, list[str]] = defaultdict(list)
    for row in rows:
        by_owner[page.owner_of(row)].append(str(row.pk))
    name = request.POST.get("action", "")
    actor = audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username())
    for owner, ids in by_owner.items():
        audit.record(
            owner,
            actor,
            f"admin.{page.opts.model_name}.{name}",
            kind=page.opts.verbose_name,
            id=ids[0] if len(ids) == 1 else "",
            details={"done": len(ids), "rows": ids[:MOST_IDS]},
        )
