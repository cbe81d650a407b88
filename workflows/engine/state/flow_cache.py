"""Published versions by id, compiled at first use; they are immutable, so an entry never goes stale.

A version that can't be compiled keeps no other from it: `load` gives what loads, and of the rest why it does not.
"""

from __future__ import annotations

import copy
import functools
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from throttling.errors import ThrottlingError
from workflows import this_process
from workflows.definitions import validate
from workflows.definitions.compiled import CompiledFlow, compile_flow
from workflows.definitions.discovered import CallOptions, Discovered, read_options
from workflows.definitions.schema import FlowSpec
from workflows.engine.sql import calls as call_sql
from workflows.engine.sql import perform as sql
from workflows.engine.sql.perform import LoadVersionsRow
from workflows.engine.state.records import Claim, ReadyStep
from workflows.errors import FlowNotFound, UnloadableVersion, WorkflowsError
from workflows.steps.registry import REGISTRY

log = structlog.get_logger(__name__)
T = TypeVar("T", Claim, ReadyStep)
MAX_VERSIONS = 2_000
TRY_AGAIN_AFTER_S = 30.0
"""Why a version does not load is remembered for so long: trying costs more than knowing."""
ABSENT_FOR_S = 1.0
"""That a version is not there is remembered for a moment: it may come, and many steps may ask for it meanwhile."""


class Versions:
    """The versions that this process has compiled, and why it could not compile others."""

    def __init__(self) -> None:
        self.compiled: OrderedDict[UUID, CompiledFlow] = OrderedDict()
        self.refused: dict[UUID, tuple[float, WorkflowsError]] = {}
        self.lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What could be loaded of the versions asked for, and why the others could not."""

    flows: dict[UUID, CompiledFlow] = field(default_factory=dict)
    refused: dict[UUID, WorkflowsError] = field(default_factory=dict)
    """By version: UnloadableVersion, or FlowNotFound for one that is not there."""


def flow_of(version_id: UUID) -> CompiledFlow:
    """The compiled version. Raises FlowNotFound for an unknown id, UnloadableVersion for one that can't be compiled."""
    kept = this_process.own(Versions).compiled.get(version_id)
    if kept is not None:
        return kept
    loaded = load([version_id])
    if version_id in loaded.refused:
        raise loaded.refused[version_id]
    return loaded.flows[version_id]


def find(version_id: UUID) -> CompiledFlow | None:
    """The compiled version; None for one that this process can't load."""
    return this_process.own(Versions).compiled.get(version_id) or load([version_id]).flows.get(version_id)


def find_or_leave(version_id: UUID) -> CompiledFlow | None:
    """The compiled version; None for one that no process can load. Raises UnloadableVersion where another may."""
    loaded = load([version_id])
    refused = loaded.refused.get(version_id)
    if refused is not None and is_newer(refused):
        raise refused
    return loaded.flows.get(version_id)


def divide(steps: Iterable[T]) -> tuple[list[T], list[tuple[T, WorkflowsError]]]:
    """(those whose version loads and has them, the others with the reason)."""
    asked = list(steps)
    loaded = load({step.version_id for step in asked})
    usable: list[T] = []
    refused: list[tuple[T, WorkflowsError]] = []
    for step in asked:
        flow = loaded.flows.get(step.version_id)
        if flow is not None and step.key in flow.steps:
            usable.append(step)
        else:
            refused.append((step, loaded.refused.get(step.version_id) or _no_such_step(step.key)))
    return usable, refused


def _no_such_step(key: str) -> UnloadableVersion:
    return UnloadableVersion(f"The version has no step {key!r}.", path="steps", reason=f"There is no step {key!r}.")


def is_newer(error: BaseException) -> bool:
    """Whether it says that this process can't load a version which another may."""
    return isinstance(error, UnloadableVersion) and error.newer


def slug_of(version_id: UUID) -> str:
    """The flow's name for a log line; empty where the version can't be loaded."""
    flow = find(version_id)
    return flow.slug if flow is not None else ""


def load(version_ids: Iterable[UUID]) -> Loaded:
    """Several versions at once, from the cache or by one query. Raises for none of them; only where this process itself
    is at fault (MemoryError), or ends."""
    wanted, versions = set(version_ids), this_process.own(Versions)
    flows = {id_: flow for id_ in wanted if (flow := versions.compiled.get(id_)) is not None}
    refused: dict[UUID, WorkflowsError] = {}
    for version_id in wanted - flows.keys():
        until, error = versions.refused.get(version_id, (float("-inf"), None))
        if error is not None and time.monotonic() < until:
            refused[version_id] = copy.copy(error)  # each raising adds to the traceback
    missing = wanted - flows.keys() - refused.keys()
    for row in sql.load_versions(ids=missing) if missing else ():
        try:
            flows[row.id] = _compile(row)
        except UnloadableVersion as error:
            refused[row.id] = error
    for version_id in wanted - flows.keys() - refused.keys():
        absent = FlowNotFound(f"There is no flow version {version_id}.")
        _remember(version_id, absent, ABSENT_FOR_S)
        refused[version_id] = absent
    return Loaded(flows=flows, refused=refused)


def _remember(version_id: UUID, error: WorkflowsError, for_s: float) -> None:
    versions = this_process.own(Versions)
    with versions.lock:
        versions.refused[version_id] = (time.monotonic() + for_s, copy.copy(error))
        while len(versions.refused) > MAX_VERSIONS:
            del versions.refused[next(iter(versions.refused))]


def _compile(row: LoadVersionsRow) -> CompiledFlow:
    """Raises UnloadableVersion where compiling raises: a tenant's text is at fault, this process is too old, or has a
    fault of its own. Lack of memory says nothing about the version, and neither does the end of the process."""
    try:
        spec = FlowSpec.model_validate(row.definition)
        flow = compile_flow(
            spec,
            version_id=row.id,
            flow_id=row.flow_id,
            number=row.number,
            org_id=row.org_id,
            find_discovered=functools.partial(_find_discovered, row.id),
        )
    except (MemoryError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        refusal = _refusal(row, error)
        log.warning("a flow version can't be loaded", version=str(row.id), path=refusal.path, reason=refusal.reason)
        _remember(row.id, refusal, TRY_AGAIN_AFTER_S)
        raise refusal from error
    versions = this_process.own(Versions)
    with versions.lock:
        versions.compiled[row.id] = flow
        versions.refused.pop(row.id, None)
        while len(versions.compiled) > MAX_VERSIONS:
            versions.compiled.popitem(last=False)
    return flow


def _find_discovered(version_id: UUID, name: str) -> Discovered | None:
    """A step that a version in Python has asked for, by its name. Raises UnloadableVersion for options that this
    process does not know."""
    rows = call_sql.load_discovered(version=version_id, name=name)
    return _discovered(name, rows[0].options) if rows else None


def note_discovered(version_id: UUID, name: str, options: CallOptions) -> Discovered:
    """Keep the options of the first step of a name; returns those that are in force."""
    given = options.model_dump(mode="json", by_alias=True, exclude_unset=True)
    rows = call_sql.note_discovered(version=version_id, name=name, options=json.dumps(given))
    return _discovered(name, rows[0].options)


def _discovered(name: str, options: Any) -> Discovered:
    try:
        return read_options(name, options)
    except ValidationError as error:
        raise UnloadableVersion(
            f"The step {name!r} has options that this process does not know. Another process may load it.",
            path=f"steps.{name}",
            reason=" ".join(str(error).split())[:1_000],
            newer=True,
        ) from None


def _refusal(row: LoadVersionsRow, error: BaseException) -> UnloadableVersion:
    path, reason, newer = _what_is_wrong(row.definition, error)
    slug = row.definition.get("flow", "") if isinstance(row.definition, dict) else ""
    return UnloadableVersion(
        f"Version {row.number} of the flow {slug!r} can't be loaded: {path or 'definition'}: {reason} "
        + ("Another process may load it." if newer else "Correct it and publish the flow again."),
        path=path,
        reason=reason,
        newer=newer,
        undoes=any("on_failure" in step or "on_cancel" in step for step in _steps(row.definition)),
    )


_OF_THE_TEXT = (WorkflowsError, ThrottlingError, ValidationError)
"""What the text of a definition is refused with. Any other error is this process's fault, and not the tenant's."""


def _what_is_wrong(definition: Any, error: BaseException) -> tuple[str, str, bool]:
    """(path, reason, whether another process may load it), by the checks that publishing makes; where those find
    nothing, by what compiling said."""
    try:
        validate.parse(definition, from_code=True)
    except validate.DefinitionProblems as problems:
        first = problems.problems[0]
        return first.path, f"{first.reason.removesuffix('.')}.", _is_newer(definition, error)
    except (MemoryError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as another:
        error = another
    said = " ".join(str(error).split()) or type(error).__name__
    newer = _is_newer(definition, error) or not isinstance(error, _OF_THE_TEXT)
    return str(getattr(error, "path", "")), f"{said.removesuffix('.')}."[:1_000], newer


def _is_newer(definition: Any, error: BaseException) -> bool:
    """Whether it has a field or a step type that this process does not know: one of a newer release may."""
    if isinstance(error, ValidationError):
        return any(each["type"] == "extra_forbidden" for each in error.errors(include_url=False))
    return any(step.get("type") not in REGISTRY for step in _steps(definition))


def _steps(definition: Any) -> Iterator[dict[Any, Any]]:
    """The steps of a definition, those in containers included."""
    open_ = [definition] if isinstance(definition, dict) else []
    while open_:
        steps = open_.pop().get("steps", [])
        for step in steps if isinstance(steps, list) else ():
            if isinstance(step, dict):
                yield step
                open_.append(step)


def forget() -> None:
    """Empty the cache (for tests that rebuild the database)."""
    this_process.forget(Versions)
