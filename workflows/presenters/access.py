"""Keys and audit entries as JSON."""

from __future__ import annotations

from typing import Any

from workflows.models import AccessKey, AuditEntry


def key_out(key: AccessKey) -> dict[str, Any]:
    """A key without itself: nobody can read one."""
    return {
        "id": str(key.id),
        "kind": key.kind,
        "name": key.name,
        "prefix": key.prefix,
        "operator": key.operator,
        "scopes": list(key.scopes or ()),
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "lastUsedAt": key.last_used_at,
        "replaces": str(key.replaces_id) if key.replaces_id else None,
        "revokedAt": key.revoked_at,
    }


def issued_out(key: AccessKey, text: str) -> dict[str, Any]:
    """A key that was issued just now, with itself, this once."""
    return {**key_out(key), "key": text}


def entry_out(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit log."""
    return {
        "id": str(entry.id),
        "at": entry.at,
        "actorKind": entry.actor_kind,
        "actor": entry.actor,
        "verb": entry.verb,
        "objectKind": entry.object_kind or None,
        "objectId": entry.object_id or None,
        "details": entry.details,
        "requestId": entry.request_id or None,
        "origin": entry.origin or None,
    }
