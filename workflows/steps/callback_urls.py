"""One-time addresses of `wait_for_callback` steps: an address is signed, and can be handed out before its step is
reached."""

from __future__ import annotations

import hashlib
from uuid import UUID

from django.core.signing import BadSignature, Signer

from workflows.models.event import SYSTEM
from workflows.this_process.configuration import configuration

SALT = "headrace.callback"


def token_of(run_id: UUID, key: str, path: str = "") -> str:
    """The last part of the address of a step of a run."""
    return Signer(salt=SALT).sign_object([run_id.hex, key, path])


def run_of(token: str) -> UUID | None:
    """The run that a token belongs to; None for one that was not signed here."""
    try:
        run_hex, _, _ = Signer(salt=SALT).unsign_object(token)
        return UUID(run_hex)
    except (BadSignature, ValueError, TypeError):
        return None


def url_of(run_id: UUID, key: str, path: str = "") -> str:
    """The whole address of a step of a run."""
    return f"{configuration().public_url}/callbacks/{token_of(run_id, key, path)}"


def event_name(token: str) -> str:
    """The name of the event that a call is stored as."""
    return f"{SYSTEM}callback/{hashlib.sha256(token.encode()).hexdigest()[:32]}"
