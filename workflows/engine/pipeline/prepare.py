"""What may really start of what became ready: a step whose needs were all skipped, or whose condition is false, is
skipped, which may make others ready, and so on until nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from workflows.engine.pipeline.record import record
from workflows.engine.state import expression_context, flow_cache, needs, unloadable
from workflows.engine.state.records import ReadyStep, Recorded
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.worker import ending


class Prepared(NamedTuple):
    """The steps to publish, the ready steps that will not start, and the runs that ended by skips."""

    steps: list[ReadyStep]
    unstarted: list[UUID]
    ended: list[UUID]
    left: list[ReadyStep]
    """Of versions that this process does not know how to load, and another may."""


def prepare(steps: Sequence[ReadyStep]) -> Prepared:
    """The steps to be published, after recording every skip (and what it makes ready). Those of a version that can't be
    loaded fail, each by itself."""
    prepared = Prepared([], [], [], [])
    open_steps = list(steps)
    while open_steps:
        usable, refused = flow_cache.divide(open_steps)
        skipped, kept = _divide(usable)
        prepared.steps.extend(kept)
        open_steps = []
        prepared.left.extend(step for step, error in refused if flow_cache.is_newer(error))
        for version_id in {step.version_id for step, error in refused if not flow_cache.is_newer(error)}:
            bad = [(step, error) for step, error in refused if step.version_id == version_id]
            open_steps += _after(unloadable.fail([step for step, _ in bad], bad[0][1]), prepared)
        if skipped:
            open_steps += _after(record([step_transitions.skip(step, why) for step, why in skipped]), prepared)
    return prepared


def _after(recorded: Recorded, prepared: Prepared) -> list[ReadyStep]:
    """The steps that became ready. Adds the ended runs and the steps that will not start to `prepared`."""
    prepared.unstarted.extend(recorded.unstarted)
    prepared.ended.extend(run_id for run_id, _ in recorded.ended)
    return recorded.ready


def _divide(steps: Sequence[ReadyStep]) -> tuple[list[tuple[ReadyStep, str]], list[ReadyStep]]:
    """(those to skip and why, those to publish). A condition that can't be evaluated is left to fail in its attempt."""
    skipped: list[tuple[ReadyStep, str]] = []
    kept: list[ReadyStep] = []
    conditional: list[ReadyStep] = []
    for step in steps:
        if step.all_needs_skipped:
            skipped.append((step, needs.NEEDS_SKIPPED))
        elif step.needs_prepare and flow_cache.flow_of(step.version_id).steps[step.key].condition is not None:
            conditional.append(step)
        else:
            kept.append(step)
    if conditional:
        compiled = {step.id: flow_cache.flow_of(step.version_id).steps[step.key] for step in conditional}
        keys = {key for each in compiled.values() for key in each.reads_steps if each.condition}
        inner = [step.id for step in conditional if compiled[step.id].container]
        scopes = expression_context.load_steps([(step.id, step.run_id) for step in conditional], keys, inner=inner)
        for step in conditional:
            try:
                reason = needs.reason_to_skip(step, compiled[step.id], scopes[step.id])
            except BaseException as error:  # whatever it is, it is about this step only
                ending.raise_if_ending(error)
                reason = ""
            if reason:
                skipped.append((step, reason))
            else:
                kept.append(step)
    return skipped, kept
