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
    found = {version_id: _cache[version_id] for version_id in wanted if version_id in _cache}
    missing = wanted - found.keys()
    for row in store.fetch("load_versions", {"ids": list(missing)}) if missing else ():
        spec = FlowSpec.model_validate(row.definition)
        found[row.id] = compile_flow(spec, version_id=row.id, flow_id=row.flow_id, number=row.number, org_id=row.org_id)
        with _lock:
            _cache[row.id] = found[row.id]
            while len(_cache) > MAX_VERSIONS:
                _cache.popitem(last=False)
    for version_id in wanted - found.keys():
        raise FlowNotFound(f"There is no flow version {version_id}.")
    return found


def forget() -> None:
    """Empty the cache (for tests that rebuild the database)."""
    _cache.clear()
