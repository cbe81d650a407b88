"""The audit log: who changed what, when, and from where. An entry is written once; Postgres refuses to change it.

Each face writes it at one place, for everything that it changes: the API (`workflows.api.edge.operations`), pages
(`workflows.dashboard.access`), the admin (`workflows.admin.checked`), commands (`workflows.management.output`). What a
request stores and its entry are one transaction, where the verb has one.
"""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from workflows.edge import redaction
from workflows.edge.path_tokens import mask_path_tokens
from workflows.models import AuditEntry
from workflows.payload import text_fault
from workflows.services.access import changes

MAX_DETAILS = 4_000
MAX_TEXT = 500
HIDDEN = frozenset({"input", "triggerdata", "data", "events", "value", "password", "password1", "password2", "secret",
                    "token", "url", "csrfmiddlewaretoken"})  # fmt: skip
"""Names of what is not written down, only that it was given."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts, by which face; of a request its id (X-Request-ID) and a keyed hash of its address."""

    kind: str
    name: str
    request_id: str = ""
    origin: str = ""


def of_request(request: HttpRequest, kind: str, name: str) -> Actor:
    """The actor of a request."""
    given = request.headers.get("X-Request-ID", "")
    address = str(request.META.get("REMOTE_ADDR", ""))
    origin = salted_hmac("headrace.audit", address, algorithm="sha256").hexdigest()[:16] if address else ""
    return Actor(kind=kind, name=name, request_id=given if _REQUEST_ID.fullmatch(given) else "", origin=origin)


def of_command() -> Actor:
    """Whoever runs a command on this machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        name = "unknown"
    return Actor(kind=AuditEntry.Actor.COMMAND, name=name)


def record(
    org_id: UUID | None,
    actor: Actor,
    verb: str,
    *,
    kind: str = "",
    id: object = "",  # noqa: A002
    details: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """A new entry, in the open transaction. `kind`, `id`: what it was done to. Payloads in `details` are masked.

    What the verb has told of its change (`changes.tell`) is in the details as `before` and `after`.
    """
    shown = _shown(
        {**(details or {}), **changes.before_and_after()}, redaction.rules_of(org_id) if org_id else redaction.Rules()
    )
    return AuditEntry.objects.create(
        org_id=org_id,
        at=timezone.now(),
        actor_kind=actor.kind,
        actor=_storable(actor.name)[:200],
        verb=verb[:100],
        object_kind=kind[:50],
        object_id=_storable(mask_path_tokens(str(id)))[:200],
        details=shown,
        request_id=actor.request_id,
        origin=actor.origin,
    )


def _shown(details: Mapping[str, Any], rules: redaction.Rules) -> dict[str, Any]:
    shown: dict[str, Any] = _without_payloads(rules.masked(dict(details)))
    text = json.dumps(shown, ensure_ascii=False, default=str)
    if len(text) > MAX_DETAILS:
        return {"shortened": True, "fields": [name[:100] for name in shown][:50]}
    found: dict[str, Any] = json.loads(text)
    return found


def _without_payloads(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            _storable(str(name)): redaction.MASK if str(name).casefold() in HIDDEN and item else _without_payloads(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_payloads(item) for item in value]
    return _storable(mask_path_tokens(value))[:MAX_TEXT] if isinstance(value, str) else value


def _storable(text: str) -> str:
    return "?" if text_fault(text) else text
