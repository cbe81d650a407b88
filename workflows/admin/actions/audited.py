"""The audit log of the admin: what a page has saved or deleted, and what an action has done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest

from workflows.models import AuditEntry, Organization
from workflows.services.access import audit

MOST_IDS = 50
MOST_ROWS = 1_000


def written(request: HttpRequest, opts: Any, verb: str, rows: Iterable[Any], message: Any = None) -> None:
    """An entry for each row that was added, changed or deleted, in the transaction of the page."""
    for row in list(rows)[:MOST_ROWS]:
        audit.record(
            _owner(row),
            audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username()),
            f"admin.{opts.model_name}.{verb}",
            kind=opts.verbose_name,
            id=row.pk,
            details={"row": str(row), **_changed(message)},
        )


def _owner(row: Any) -> UUID | None:
    if isinstance(row, Organization):
        return row.id
    return getattr(row, "organization_id", None) or getattr(row, "org_id", None)


def _changed(message: Any) -> dict[str, Any]:
    """The names of the fields that Django says were changed."""
    if isinstance(message, str) and message.startswith("["):
        message = json.loads(message)
    return {"changed": message} if message else {}


def action(request: HttpRequest, page: Any, done: int) -> None:
    """An entry for each organization that an action has done something in; the rows have transactions of their own."""
    name = request.POST.get("action", "")
    ids = request.POST.getlist(ACTION_CHECKBOX_NAME)
    model = page.model
    field = next((each for each in ("organization_id", "org_id") if hasattr(model, each)), None)
    owners: list[UUID | None] = [None]
    if field is not None:
        column = field if field == "org_id" else "organization"
        owners = list(model._default_manager.filter(pk__in=ids).values_list(column, flat=True).distinct()) or [None]
    actor = audit.of_request(request, AuditEntry.Actor.LOGIN, request.user.get_username())
    for owner in owners:
        details = {"done": done, "rows": ids[:MOST_IDS], "selected": len(ids)}
        audit.record(owner, actor, f"admin.{page.opts.model_name}.{name}", kind=page.opts.verbose_name, details=details)
