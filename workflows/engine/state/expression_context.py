"""What expressions and templates of a run may read, loaded for a whole batch by one statement."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from cachetools import LRUCache

from workflows import this_process
from workflows.engine.pipeline.facts import event_facts, user_of
from workflows.engine.sql import perform as sql
from workflows.engine.sql.perform import LoadContextsRow
from workflows.engine.state import database, flow_cache
from workflows.payload import Json
from workflows.steps import callback_urls
from workflows.steps.masking import mask, mask_json

__all__ = ["Scope", "load", "load_steps", "mask", "mask_json"]

Scope = Mapping[str, Any]


def load(run_ids: Iterable[UUID], step_keys: Iterable[str], cursor: database.Cursor | None = None) -> dict[UUID, Scope]:
    """The scope of each run: input, event, run, org, and `steps[key].output` for the named steps."""
    ids, inputs = list(set(run_ids)), this_process.own(Inputs)
    known = {id_: value for id_ in ids if (value := inputs.get(id_)) is not UNKNOWN}
    found: dict[UUID, Scope] = {}
    for row in sql.load_contexts(run_ids=ids, keys=sorted(set(step_keys)), known=known, cursor=cursor):
        if row.id not in known:
            inputs.keep(row.id, row.input, row.size)
        found[row.id] = _scope(row, known.get(row.id, row.input))
    return found


UNKNOWN = object()
SMALL_BYTES = 1_000
KEPT_BYTES = 4 * 1024 * 1024


class _Input(NamedTuple):
    value: Any
    size: int


class Inputs:
    """The large inputs of some runs, which many steps of a run may read; the least recently used ones are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[UUID, _Input] = LRUCache(KEPT_BYTES, getsizeof=lambda kept: kept.size)

    def get(self, run_id: UUID) -> Any:
        """The input, which must not be changed; or UNKNOWN."""
        with self._lock:
            kept = self._kept.get(run_id)
        return UNKNOWN if kept is None else kept.value

    def keep(self, run_id: UUID, value: Any, size: int) -> None:
        if not SMALL_BYTES < size < KEPT_BYTES:
            return
        with self._lock:
            if run_id not in self._kept:
                self._kept[run_id] = _Input(value, size)


def load_steps(
    steps: Iterable[tuple[UUID, UUID]], step_keys: Iterable[str], *, inner: Sequence[UUID] = ()
) -> dict[UUID, Scope]:
    """The scope of each step run, of (step run, run) pairs. `inner`: those of them that stand in containers; they see
    their item too, and the steps around them."""
    pairs, keys = list(steps), sorted(set(step_keys))
    of_runs = load((run_id for _, run_id in pairs), keys)
    scopes: dict[UUID, Scope] = {step_run_id: of_runs[run_id] for step_run_id, run_id in pairs}
    for row in sql.load_inner(ids=inner, keys=keys) if inner else ():
        around = scopes[row.id]
        own = _outcomes(row.outcomes, row.version_id)
        scopes[row.id] = {
            **around,
            "steps": {**around["steps"], **own},
            "callbacks": _addresses(row.run_id, row.version_id, row.path),
            "item": row.item,
            "index": row.position,
        }
    return scopes


def _scope(row: LoadContextsRow, data: Json) -> Scope:
    happened = row.event_ts or row.created_at
    return {
        "callbacks": _addresses(row.id, row.version_id, ""),
        "input": data,
        "event": event_facts(
            id_=row.event_id or row.id,
            name=row.event_name,
            data=data,
            user=row.event_user or user_of(row.user_id),
            ts=happened,
        ),
        "steps": _outcomes(row.outcomes, row.version_id),
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


def _addresses(run_id: UUID, version_id: UUID, path: str) -> dict[str, str]:
    """The callback addresses that can be read at a path: of steps at the top, and of those around and beside."""
    flow = flow_cache.find(version_id)
    if flow is None:
        return {}
    parts = path.split("/") if path else []
    found = {}
    for key in flow.callbacks:
        around = flow.containers_of(key)
        own = parts[: len(around)]
        if [part.split("[", 1)[0] for part in own] == around:
            found[key] = callback_urls.url_of(run_id, key, "/".join(own))
    return found


def _outcomes(found: Mapping[str, Any] | None, version_id: UUID) -> dict[str, Any]:
    """By step: its output, its status, and who gave them: itself, or the fallback that stood in for it."""
    given = (found or {}).items()
    steps = {key: {"output": output, "status": status, "provider": key} for key, (status, output) in given}
    flow = flow_cache.find(version_id)
    for key, fallbacks in flow.chains.items() if flow is not None else ():
        for fallback in fallbacks if key in steps else ():
            if steps.get(fallback, {}).get("status") in {"completed", "failed"}:
                steps[key] = {**steps[fallback], "provider": fallback}
    return steps
