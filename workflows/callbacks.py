"""One-time addresses: what is sent to one ends the `wait_for_callback` step that it belongs to.

An address is signed and can be handed out before its step is reached; a call is stored as an event, so that it is
neither lost nor counted twice, whichever comes first.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import transaction

from workflows.errors import WorkflowsError

NAMESPACE = uuid.UUID("6f3c1d7e-52a4-4b0e-9f0c-2f6e6a1d0c11")
SALT = "headrace.callback"


class CallbackNotFound(WorkflowsError):
    """There is no such callback address."""

    status, code = 404, "callback_not_found"


class CallbackUsed(WorkflowsError):
    """This callback address was used already, or its run has ended."""

    status, code = 410, "callback_used"


def token_of(run_id: UUID, key: str, path: str = "") -> str:
    """The last part of the address of a step of a run."""
    return Signer(salt=SALT).sign_object([run_id.hex, key, path])


def url_of(run_id: UUID, key: str, path: str = "") -> str:
    return f"{settings.PUBLIC_URL}/callbacks/{token_of(run_id, key, path)}"


def event_name(token: str) -> str:
    """The name of the event that a call is stored as."""
    return f"headrace/callback/{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def take(token: str, body: dict[str, Any]) -> None:
    """Take in a call. Raises CallbackNotFound, CallbackUsed, or PayloadTooLarge."""
    from workflows.engine import events, store  # noqa: PLC0415  (the engine imports the step types, which import this)
    from workflows.models import Event, Run  # noqa: PLC0415

    try:
        run_hex, _, _ = Signer(salt=SALT).unsign_object(token)
        run_id = UUID(run_hex)
    except (BadSignature, ValueError, TypeError):
        raise CallbackNotFound from None
    run = Run.objects.filter(id=run_id).first()
    if run is None:
        raise CallbackNotFound
    event = events.NewEvent(id=uuid.uuid5(NAMESPACE, token), name=event_name(token), data=body)
    with transaction.atomic():
        store.fetch("lock_controls", {"flow": run.flow_id, "keys": [event.name]})  # of two calls at once one is later
        if not run.is_live or Event.objects.filter(id=event.id).exists():
            raise CallbackUsed
        events.receive(run.org_id, [event])
