"""Published versions by id, compiled at first use; they are immutable, so an entry never goes stale."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from workflows.definitions.compiled import CompiledFlow, compile_flow
from workflows.definitions.schema import FlowSpec
from workflows.engine import store
from workflows.errors import FlowNotFound

MAX_VERSIONS = 2_000
_cache: OrderedDict[UUID, CompiledFlow] = OrderedDict()
_lock = threading.Lock()


def flow_of(version_id: UUID) -> CompiledFlow:
    """The compiled version. Raises FlowNotFound for an unknown id."""
    found = _cache.get(version_id)
    return found if found is not None else load([version_id])[version_id]


def load(version_ids: Iterable[UUID]) -> dict[UUID, CompiledFlow]:
    """Several versions at once, from the cache or by one query."""
    wanted = set(version_ids)
    missing = [version_id for version_id in wanted if version_id not in _cache]
    if missing:
        for row in store.fetch("load_versions", {"ids": missing}):
            compiled = compile_flow(
                FlowSpec.model_validate(row.definition), version_id=row.id, flow_id=row.flow_id, number=row.number
            )
            with _lock:
                _cache[row.id] = compiled
                while len(_cache) > MAX_VERSIONS:
                    _cache.popitem(last=False)
    try:
        return {version_id: _cache[version_id] for version_id in wanted}
    except KeyError as error:
        raise FlowNotFound(f"There is no flow version {error.args[0]}.") from None


def forget() -> None:
    """Empty the cache (for tests that rebuild the database)."""
    _cache.clear()
