"""Plain runs that programs ask for: those of a group share a statement, which checks key, pause and version as well.

Plain is a run without idempotency key, controls or delay. Whatever is unusual (an unknown key, a paused flow, an input
that is refused) is left to its caller, who finds out what it is one by one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog
import uuid6

from workflows import this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.edge.unavailable import is_database_away
from workflows.engine.intake.groups import Groups, Outcome
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.pipeline.trigger import NewRun, priority_of, tags_of
from workflows.engine.sql import intake as sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import NO_LINEAGE, Candidate, ReadyStep
from workflows.engine.state.transitions import runs as run_transitions
from workflows.errors import WorkflowsError
from workflows.payload import Json

log = structlog.get_logger(__name__)
MOST_TARGETS = 5_000
SLOW_AFTER_S = 0.005
"""A version whose schema or priority takes so much of the processor is never plain again: others wait meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one request asks for: runs of a flow, all or none. `inputs` are checked and written as JSON `texts`."""

    digest: str
    slug: str
    inputs: Sequence[Json]
    texts: Sequence[str]
    user_ids: Sequence[str]
    tags: Sequence[Sequence[str]]
    settle: Callable[[Outcome], None]
    """Called once it is known what becomes of it; a second call changes nothing."""

    @property
    def count(self) -> int:
        return len(self.texts)

    @property
    def size(self) -> int:
        return sum(map(len, self.texts)) * 3

    def leave(self) -> None:
        self.settle(None)

    @property
    def target(self) -> tuple[str, str]:
        return self.digest, self.slug


class Targets(OrderedDict[tuple[str, str], UUID]):
    """By key and slug: the version that it started lately. A hint: the statement that makes runs checks it."""


class SlowVersions(set[UUID]):
    """The versions that take long to evaluate."""


def writer() -> Groups[Wanted]:
    """This process's writer of plain runs."""
    return this_process.own(_new_writer)


def _new_writer() -> Groups[Wanted]:
    return Groups("intake-runs", write)


def write(group: Sequence[Wanted]) -> None:
    """Store the runs of the requests that are plain; settle every request."""
    targets = this_process.own(Targets)
    _write_known(group, targets, or_else=lambda left: _look_up_and_write(left, targets))


def _look_up_and_write(group: Sequence[Wanted], targets: Targets) -> None:
    """Once more for those whose version is not known, or not the published one any more."""
    try:
        rows = sql.run_targets(digests=[each.digest for each in group], slugs=[each.slug for each in group])
    except psycopg.Error as error:
        log.warning("the flows of a group can't be looked up", requests=len(group), error=str(error))
        rows = []
    for each in group:
        targets.pop(each.target, None)
    for row in rows:
        targets[row.digest, row.slug] = row.version_id
    while len(targets) > MOST_TARGETS:
        targets.popitem(last=False)
    _write_known(group, targets, or_else=_leave)


def _leave(group: Sequence[Wanted]) -> None:
    for each in group:
        each.leave()


def _write_known(group: Sequence[Wanted], targets: Targets, *, or_else: Callable[[Sequence[Wanted]], None]) -> None:
    """Write those whose version is known, by version; hand over the others, and those that the statement refuses."""
    by_version: dict[UUID, list[Wanted]] = {}
    left: list[Wanted] = []
    for each in group:
        version_id = targets.get(each.target)
        if version_id is None:
            left.append(each)
        else:
            by_version.setdefault(version_id, []).append(each)
    loaded = flow_cache.load(by_version) if by_version else flow_cache.Loaded()
    for version_id, members in by_version.items():
        flow = loaded.flows.get(version_id)
        left += _write_version(flow, members) if flow is not None else members
    if left:
        or_else(left)


def is_plain(flow: CompiledFlow) -> bool:
    """Whether its runs may be made in groups."""
    return flow.idempotency is None and not flow.controls.any and flow.version_id not in this_process.own(SlowVersions)


def _write_version(flow: CompiledFlow, group: Sequence[Wanted]) -> list[Wanted]:
    """Write the requests of a version. Returns those that the statement refuses; they are not settled."""
    if not is_plain(flow):
        _leave(group)
        return []
    good: list[tuple[Wanted, list[Candidate]]] = []
    for each in group:
        candidates = _candidates(flow, each)
        if candidates is None:
            each.leave()
        else:
            good.append((each, candidates))
    return _insert(flow, good) if good else []


def _candidates(flow: CompiledFlow, wanted: Wanted) -> list[Candidate] | None:
    """The runs of a request; None for one whose input the flow refuses."""
    begun = time.thread_time()
    try:
        if flow.input_schema is not None and any(flow.input_problems(value) for value in wanted.inputs):
            return None
        return [
            _candidate(flow, value, text, user_id, tags, wanted.digest)
            for value, text, user_id, tags in zip(
                wanted.inputs, wanted.texts, wanted.user_ids, wanted.tags, strict=True
            )
        ]
    except WorkflowsError:
        return None
    finally:
        if time.thread_time() - begun > SLOW_AFTER_S * wanted.count:
            this_process.own(SlowVersions).add(flow.version_id)


def _candidate(flow: CompiledFlow, value: Json, text: str, user_id: str, tags: Sequence[str], digest: str) -> Candidate:
    run_id = uuid6.uuid7()
    priority, words = flow.priority, tags
    if flow.tags or tags or not isinstance(priority, int):
        run = NewRun(input=value, id=run_id, tags=tags)
        priority = priority_of(flow, run, org_id=flow.org_id, event_name="", user_id=user_id)
        words = tags_of(flow, run, org_id=flow.org_id, event_name="", user_id=user_id)
    return Candidate(
        id=run_id, facts={}, text=text, event_id=None, event_name="", user_id=user_id, priority=priority, tags=words,
        api_key=digest,
    )  # fmt: skip


def _insert(flow: CompiledFlow, group: Sequence[tuple[Wanted, list[Candidate]]]) -> list[Wanted]:
    """Insert and dispatch the runs of requests, in halves where that fails. Returns those that are refused."""
    new = [candidate for _, candidates in group for candidate in candidates]
    ready: list[ReadyStep] = []
    try:
        ready = run_transitions.insert(flow, flow.org_id, new, trigger="api", run_at=None, lineage=NO_LINEAGE)
        stored = {step.run_id for step in ready}
    except psycopg.errors.UniqueViolation:  # the ids are new: so the statement was tried twice, and is stored already
        stored = {row.id for row in sql.stored_runs(ids=[candidate.id for candidate in new])}
    except psycopg.Error as error:
        log.warning("runs can't be made together", requests=len(group), error=str(error))
        if is_database_away(error):
            for wanted, _ in group:
                wanted.settle(error)
            return []
        if len(group) == 1:
            group[0][0].leave()
            return []
        middle = len(group) // 2
        return _insert(flow, group[:middle]) + _insert(flow, group[middle:])
    refused = []
    for wanted, candidates in group:
        if candidates[0].id in stored:
            wanted.settle([candidate.id for candidate in candidates])
        else:
            refused.append(wanted)
    if ready:
        this_process.own(Dispatcher).submit(ready)
    return refused
