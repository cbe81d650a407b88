"""What expressions and templates of a run may read, loaded for a whole batch by one statement."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

from workflows import callbacks
from workflows.engine import catalog, store
from workflows.models import Secret

Scope = Mapping[str, Any]
SECRETS_TTL_S = 10.0
MANUAL_EVENT = "headrace/manual"


def load(run_ids: Iterable[UUID], step_keys: Iterable[str], cursor: store.Cursor | None = None) -> dict[UUID, Scope]:
    """The scope of each run: input, event, run, org, and `steps[key].output` for the named steps."""
    rows = store.fetch("load_contexts", {"run_ids": list(set(run_ids)), "keys": sorted(set(step_keys))}, cursor)
    return {row.id: _scope(row) for row in rows}


def load_steps(steps: Iterable[tuple[UUID, UUID]], step_keys: Iterable[str]) -> dict[UUID, Scope]:
    """The scope of each step run, of (step run, run) pairs."""
    pairs = list(steps)
    scopes = load((run_id for _, run_id in pairs), step_keys)
    return {step_run_id: scopes[run_id] for step_run_id, run_id in pairs}


def _scope(row: Any) -> Scope:
    happened = row.event_ts or row.created_at
    flow = catalog.flow_of(row.version_id)
    return {
        "callbacks": {key: callbacks.url_of(row.id, key) for key in flow.callbacks},
        "input": row.input,
        "event": {
            "id": str(row.event_id or row.id),
            "name": row.event_name or MANUAL_EVENT,
            "data": row.input,
            "user": row.event_user or ({"id": row.user_id} if row.user_id else {}),
            "ts": int(happened.timestamp() * 1000),
        },
        "steps": _steps(row),
        "run": {
            "id": str(row.id),
            "flow": row.flow,
            "trigger": row.trigger,
            "userId": row.user_id,
            "priority": row.priority,
            "createdAt": row.created_at.isoformat(),
            "error": row.error,
            "cancelReason": row.cancel_reason,
        },
        "org": {"id": str(row.org_id), "slug": row.org_slug},
    }


def _steps(row: Any) -> dict[str, Any]:
    """By step: its output, its status, and who gave them: itself, or the fallback that stood in for it."""
    found = row.outcomes or {}
    steps = {key: {"output": output, "status": status, "provider": key} for key, (status, output) in found.items()}
    for key, fallbacks in catalog.flow_of(row.version_id).chains.items():
        for fallback in fallbacks if key in steps else ():
            if steps.get(fallback, {}).get("status") in {"completed", "failed"}:
                steps[key] = {**steps[fallback], "provider": fallback}
    return steps


class SecretValues:
    """The clear secrets of organizations, kept for a few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[UUID, tuple[float, dict[str, str]]] = {}

    def of(self, org_id: UUID) -> dict[str, str]:
        """Name → value. Raises ConfigurationFailure for a secret that can't be decrypted."""
        with self._lock:
            kept = self._kept.get(org_id)
            if kept and kept[0] > time.monotonic():
                return kept[1]
            rows = store.fetch("load_secrets", {"org": org_id})
            values = {row.name: Secret(name=row.name, ciphertext=row.ciphertext).value for row in rows}
            self._kept[org_id] = (time.monotonic() + SECRETS_TTL_S, values)
            return values


SECRETS = SecretValues()


def mask_json(value: Any, values: Iterable[str]) -> Any:
    """The JSON value with the secrets replaced in every text, keys included."""
    secrets = [*values]
    if isinstance(value, str):
        return mask(value, secrets)
    if isinstance(value, dict):
        return {mask_json(key, secrets): mask_json(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_json(item, secrets) for item in value]
    return value


def mask(text: str, values: Iterable[str]) -> str:
    """The text with every secret value replaced."""
    for spelling in sorted({each for value in values for each in _spellings(value)}, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(value: str) -> Iterator[str]:
    """The value as it is, within JSON, and within a URL."""
    if value:
        yield from (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe=""))
        yield quote_plus(value)
