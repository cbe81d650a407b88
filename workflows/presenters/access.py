"""Keys, secrets' names and audit entries as JSON."""

from __future__ import annotations

from typing import Any

from workflows.models import AccessKey, AuditEntry
from workflows.selectors.access.audit import AuditPage
from workflows.selectors.access.secrets import SecretNames, SecretRow


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


def secret_out(row: SecretRow) -> dict[str, Any]:
    """A name with where it comes from and who uses it: nobody reads the value."""
    return {
        "name": row.name,
        "source": row.source,
        "alsoIn": list(row.also_in),
        "updatedAt": row.updated_at,
        "updatedBy": row.by or None,
        "usedBy": list(row.flows),
        "problem": row.problem or None,
    }


def secrets_out(found: SecretNames) -> dict[str, Any]:
    """The names that sources have, those that are missing, and what could not be looked at."""
    return {
        "secrets": [secret_out(each) for each in found.rows],
        "missing": [{"name": each.name, "usedBy": list(each.flows)} for each in found.missing],
        "unreadSources": list(found.failed_sources),
        "unreadFlows": [*found.named.computing, *found.named.unread],
    }


def audit_out(page: AuditPage) -> dict[str, Any]:
    """A page of the audit log."""
    return {
        "entries": [entry_out(each) for each in page.entries],
        "nextCursor": page.next_cursor or None,
        "searchedTo": page.searched_to,
    }


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
