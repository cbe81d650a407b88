"""Every check of a definition, with all problems at once: each names its path and what to do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from throttling.errors import ThrottlingError
from throttling.policy import step_policy
from workflows.definitions import graph as graphs
from workflows.definitions import trigger_identity
from workflows.definitions.json_schema import SchemaRefused, compile_schema
from workflows.definitions.schema import CODE_TYPES, FlowSpec, RetrySpec, StepSpec
from workflows.definitions.shape import Shape, did_you_mean, path_text
from workflows.definitions.text.plain import to_plain
from workflows.edge import tags
from workflows.errors import ExpressionError, InvalidDefinition
from workflows.expressions import NAMES, Expression, check_bounds, compile_expression, compile_template
from workflows.sealing import envelope
from workflows.steps.registry import REGISTRY, StepType

STEP_NAMES = NAMES - {"async", "item", "index", "body", "headers"}
CONDITION_NAMES = STEP_NAMES - {"secrets"}
LIMIT_KEY_NAMES = frozenset({"event", "input", "org"})
TRIGGER_NAMES = frozenset({"event"})
MAX_STEPS = 1_000
MAX_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One error of a definition."""

    path: str
    reason: str
    file: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.reason) if part)


class DefinitionProblems(InvalidDefinition):
    """The definition has errors; `problems` lists all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def parse(document: Any, *, file: str = "", from_code: bool = False) -> FlowSpec:
    """A checked definition. Raises DefinitionProblems with everything that is wrong.

    `from_code`: it is made from a flow in Python, or was stored. Nobody else may write its step types: an organization
    would have the code of another performed.
    """
    document = plain_json(document, file=file)
    if not isinstance(document, dict):
        raise DefinitionProblems([Problem(file=file, path="", reason="a definition is a mapping with flow and steps")])
    if not from_code and envelope.looks_sealed(json.dumps(document)):
        reason = 'no key "$enc" and no text "$enc{…": so does the database write encrypted payloads'
        raise DefinitionProblems([Problem(file=file, path="", reason=reason)])
    shape = Shape(document)
    found = [(path_text(location), reason) for location, reason in shape.problems]
    if shape.spec is not None:
        found += [(path, reason) for path, reason in _check(shape.spec) if not shape.is_incomplete(path)]
        found += () if from_code else _written_code(shape.spec)
    if found or shape.spec is None:
        raise DefinitionProblems([Problem(file=file, path=path, reason=reason) for path, reason in found])
    return shape.spec


def _written_code(spec: FlowSpec) -> Iterator[tuple[str, str]]:
    for placed in graphs.walk_steps(spec.steps):
        if placed.step.type in CODE_TYPES:
            reason = f"{placed.step.type} is for flows in Python: write the flow with @flow, and publish it with "
            yield f"steps.{placed.step.id}.type", f"{reason}manage.py flows publish"


def plain_json(value: Any, *, file: str = "") -> Any:
    """The value as plain JSON. Raises DefinitionProblems with everything that JSON or the database can't hold."""
    document, problems = to_plain(value)
    if problems:
        raise DefinitionProblems([Problem(file=file, path=path_text(path), reason=reason) for path, reason in problems])
    return document


def _check(spec: FlowSpec) -> Iterator[tuple[str, str]]:
    ids = [placed.step.id for placed in graphs.walk_steps(spec.steps)]
    if len(ids) > MAX_STEPS:
        yield "steps", f"{len(ids):,} steps, those in containers included; a flow has {MAX_STEPS:,} at most"
    for key, count in Counter(ids).items():
        if count > 1:
            yield "steps", f"duplicate id {key!r} ({count} times)"
    yield from _check_steps(spec.steps, "steps", frozenset(), frozenset())
    known = frozenset(step.id for step in spec.steps)
    yield from trigger_identity.problems(spec.on)
    for position, trigger in enumerate(spec.on):
        if trigger.condition is not None:
            yield from _expression(trigger.condition, f"on[{position}].if", TRIGGER_NAMES)
        if trigger.transform is not None:
            yield from _expression(trigger.transform, f"on[{position}].transform", frozenset({"body", "headers"}))
    for position, cancel in enumerate(spec.cancel_on):
        if cancel.condition is not None:
            yield from _expression(cancel.condition, f"cancel_on[{position}].if", frozenset({"event", "async"}))
    if spec.idempotency:
        yield from _expression(spec.idempotency.key, "idempotency.key", LIMIT_KEY_NAMES)
        if spec.idempotency.force:
            yield from _expression(spec.idempotency.force, "idempotency.force", LIMIT_KEY_NAMES)
    if spec.retry:
        of_known_type = (placed.step for placed in graphs.walk_steps(spec.steps) if placed.step.type in REGISTRY)
        yield from _check_retry(spec.retry, "retry", of_known_type)
    if isinstance(spec.priority, str):
        yield from _expression(spec.priority, "priority", LIMIT_KEY_NAMES)
    for position, limit in enumerate(spec.concurrency):
        if limit.key:
            yield from _expression(limit.key, f"concurrency[{position}].key", LIMIT_KEY_NAMES)
    if spec.throttle and spec.throttle.key:
        yield from _expression(spec.throttle.key, "throttle.key", LIMIT_KEY_NAMES)
    for name in ("debounce", "batch", "singleton", "rate_limit"):
        control = getattr(spec, name)
        if control is not None and control.key:
            yield from _expression(control.key, f"{name}.key", LIMIT_KEY_NAMES)
    yield from _check_pairs(spec)
    yield from _check_tags(spec)
    if spec.output is not None:
        yield from _template(spec.output, "output", CONDITION_NAMES, known)
    if spec.input_schema is not None:
        try:
            compile_schema(spec.input_schema)
        except SchemaRefused as error:
            for problem in error.problems:
                yield path_text(problem.path, "input_schema"), problem.message


REFUSED_PAIRS = (
    ("batch", "debounce", "both gather events, each into a run of its own kind: choose one"),
    ("batch", "singleton", "a skipped run would take all of its events along: use concurrency with scope run"),
    ("batch", "rate_limit", "a dropped run would take all of its events along: use throttle"),
    ("batch", "idempotency", "a run of many events has no single key; senders give each event its own id"),
    ("batch", "cancel_on", "a run of many events can't be told by one of them"),
    ("debounce", "singleton", "while a run is live the last event would be lost: use concurrency with scope run"),
    ("debounce", "idempotency", "the key would refuse the later events that the debounce waits for"),
)


def _check_pairs(spec: FlowSpec) -> Iterator[tuple[str, str]]:
    """Controls that contradict each other."""
    for one, other, why in REFUSED_PAIRS:
        if getattr(spec, one) and getattr(spec, other):
            yield one, f"can't be combined with {other}: {why}"
    if spec.batch and isinstance(spec.priority, str):
        yield "batch", "can't be combined with a priority expression: a run has many events; give priority as a number"
    for position, trigger in enumerate(spec.on):
        if trigger.match and trigger.event is None:
            yield f"on[{position}].match", "match belongs to an event trigger"
        if (trigger.delay or trigger.run_at or trigger.jitter) and (spec.debounce or spec.batch):
            reason = "delay, run_at and jitter can't be combined with debounce or batch, which decide when it runs"
            yield f"on[{position}]", reason
        if trigger.run_at:
            yield from _expression(trigger.run_at, f"on[{position}].run_at", TRIGGER_NAMES)


def _check_tags(spec: FlowSpec) -> Iterator[tuple[str, str]]:
    """Tags that are no tags, and templates that can't be evaluated when a run is made."""
    for position, text in enumerate(spec.tags):
        path = f"tags[{position}]"
        if "${" not in text.replace("$${", ""):  # what stands for itself is no tag anyway
            if not tags.is_tag(text):
                yield path, f"{tags.shown(text)} is no tag; {tags.FORM}"
            continue
        yield from _template(text, path, LIMIT_KEY_NAMES, frozenset())
        if spec.batch:
            yield path, "a run of a batch has many events: give its tags without templates"


def _check_steps(
    steps: Sequence[StepSpec], path: str, outer: frozenset[str], outside: frozenset[str], container: str = ""
) -> Iterator[tuple[str, str]]:
    """The steps of one graph, and of the containers in it. `outer`: the steps around it; `outside`: those of them that
    have ended when it begins."""
    graph = graphs.build(steps)
    own = frozenset(step.id for step in steps)
    extra = frozenset({"item", "index"}) if container else frozenset()
    for position, step in enumerate(steps):
        where = f"{path}[{position}]"
        inner = frozenset(each.id for each in step.steps)
        names = _Names(known=own | outer, needed=own, before=graph.before(step.id) | outside, inner=inner, extra=extra)
        yield from _check_step(step, where, names)
        yield from _check_body(step, where)
        if container and (step.on_failure or step.on_cancel):
            yield where, f"{step.id!r} stands in {container!r}: only steps outside of containers can be undone"
        yield from _check_steps(step.steps, f"{where}.steps", own | outer, graph.before(step.id) | outside, step.id)
    yield from _check_failure_paths(steps, path, own, graph)
    cycle = graphs.find_cycle(graph.needs) if len(own) == len(steps) else None
    if cycle:
        yield path, f"cycle in needs: {' → '.join(cycle)}"


def _check_body(step: StepSpec, path: str) -> Iterator[tuple[str, str]]:
    is_container = step.type in REGISTRY and REGISTRY[step.type].container
    if is_container and not step.steps:
        yield f"{path}.steps", f"{step.type} runs steps of its own: list them"
    if step.steps and not is_container and step.type in REGISTRY:
        containers = ", ".join(sorted(name for name, each in REGISTRY.items() if each.container))
        yield f"{path}.steps", f"{step.type} has no steps of its own; {containers} have"
    if is_container and path.count(".steps") >= MAX_DEPTH:
        yield path, f"containers stand within each other {MAX_DEPTH} levels deep at most; invoke a flow instead"


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What a step may name: `known` steps, `needed` ones (of its own graph), those that have ended `before` it, the
    `inner` ones of a container, and `extra` names in its expressions."""

    known: frozenset[str]
    needed: frozenset[str]
    before: frozenset[str]
    inner: frozenset[str]
    extra: frozenset[str]


def _check_retry(retry: RetrySpec, path: str, steps: Iterable[StepSpec]) -> Iterator[tuple[str, str]]:
    try:
        for step in steps:
            retry.policy(step_policy(step.type, critical=step.critical is True).retry)
    except ThrottlingError as error:
        yield path, str(error)


def _check_failure_paths(
    steps: Sequence[StepSpec], at: str, known: frozenset[str], graph: graphs.Graph
) -> Iterator[tuple[str, str]]:
    """Fallbacks and compensations: that they exist, and stand where nothing else does."""
    primaries = Counter(step.fallback_for for step in steps if step.fallback_for)
    types = {step.id: step.type for step in steps}
    targets = {key for keys in graph.branches.values() for key in keys}
    for position, step in enumerate(steps):
        path, primary = f"{at}[{position}]", step.fallback_for
        for field_name in ("on_failure", "on_cancel"):
            for key in getattr(step, field_name):
                if key not in known:
                    yield f"{path}.{field_name}", f"unknown step {key!r}{did_you_mean(key, known)}"
                elif key == step.id or step.id in graph.compensations:
                    yield f"{path}.{field_name}", "a step that undoes others is not undone itself"
        if step.critical is False:
            for key in step.on_failure:
                if sum(key in each.on_failure for each in steps) > 1:
                    yield (
                        f"{path}.on_failure",
                        f"{key!r} undoes other steps too; this one, which may fail alone, needs its own",
                    )
        if step.id in graph.compensations:
            if step.needs or primary or step.id in targets or step.type == "conditional":
                reason = (
                    "a step that undoes another has no needs, decides nothing, is no fallback and stands in no branch"
                )
                yield path, reason
            continue
        for need in graph.needs[step.id]:
            if need in graph.compensations:
                yield f"{path}.needs", f"{need!r} undoes other steps: nothing can need it"
        if primary is None:
            continue
        if primary not in known:
            yield f"{path}.fallback_for", f"unknown step {primary!r}{did_you_mean(primary, known)}"
        elif primary == step.id:
            yield f"{path}.fallback_for", "a step can't stand in for itself"
        elif primary in graph.compensations or types[primary] == "conditional":
            yield f"{path}.fallback_for", f"{primary!r} decides or undoes: it has no result to stand in for"
        elif primaries[primary] > 1:
            yield f"{path}.fallback_for", f"{primary!r} has several fallbacks: let the second stand in for the first"
        if step.needs is not None or step.condition or step.deadline or step.id in targets:
            reason = (
                "a fallback has no needs, no if, no deadline and stands in no branch: it runs where its primary failed"
            )
            yield path, reason


def _check_step(step: StepSpec, path: str, names: _Names) -> Iterator[tuple[str, str]]:
    known, before = names.known, names.before
    for need in step.needs or ():
        if need not in names.needed:
            yield f"{path}.needs", f"unknown step {need!r}{did_you_mean(need, names.needed)}"
    for target in sorted(graphs.branch_targets(step) - names.needed):
        yield f"{path}.config", f"a branch names the unknown step {target!r}{did_you_mean(target, names.needed)}"
    if step.condition is not None:
        yield from _expression(step.condition, f"{path}.if", CONDITION_NAMES | names.extra, known, before)
    step_type = REGISTRY.get(step.type)
    if step_type is None:
        yield f"{path}.type", f"unknown type {step.type!r}{did_you_mean(step.type, frozenset(REGISTRY))}"
        return
    if step.retry:
        yield from _check_retry(step.retry, f"{path}.retry", [step])
    if step.deadline is not None:
        yield from _expression(step.deadline, f"{path}.deadline", CONDITION_NAMES | names.extra, known, before)
    if step.throttling:
        keys = {
            "throttling.key": step.throttling.key,
            "throttling.rate.key": step.throttling.rate and step.throttling.rate.key,
        }
        for where, key in keys.items():
            if key:
                yield from _expression(key, f"{path}.{where}", LIMIT_KEY_NAMES)
    template, expressions = step_type.split_config(step.config)
    allowed = (STEP_NAMES if step_type.outbound else CONDITION_NAMES) | names.extra
    yield from _template(template, f"{path}.config", allowed, known, before)
    for where, expression in expressions:
        allowed = CONDITION_NAMES | names.extra | step_type.expression_names
        yield from _expression(expression, f"{path}.config.{where}", allowed, known | names.inner, before | names.inner)
    yield from _check_config(step, step_type, f"{path}.config")


def _check_config(step: StepSpec, step_type: StepType, path: str) -> Iterator[tuple[str, str]]:
    """Against the type's model; a value that holds a template is checked when it is known, at the attempt."""
    try:
        step_type.config_model.model_validate(step.config)
    except ValidationError as error:
        for item in error.errors():
            if not item["loc"] or not _holds_template(item["input"]) or item["type"] in {"extra_forbidden", "missing"}:
                reason = item["msg"].removeprefix("Value error, ")
                if item["type"] == "extra_forbidden":
                    reason = f"unknown field{did_you_mean(str(item['loc'][-1]), _config_fields(step_type))}"
                yield path_text(item["loc"], path), reason


def _config_fields(step_type: StepType) -> set[str]:
    return {field.alias or name for name, field in step_type.config_model.model_fields.items()}


def _holds_template(value: Any) -> bool:
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict):
        return any(_holds_template(item) for item in value.values())
    return isinstance(value, list) and any(_holds_template(item) for item in value)


def _expression(
    source: str,
    path: str,
    names: frozenset[str],
    known: frozenset[str] = frozenset(),
    before: frozenset[str] | None = None,
) -> Iterator[tuple[str, str]]:
    try:
        expression = compile_expression(source, names, owner="publishing")
        check_bounds(expression)
    except ExpressionError as error:
        yield path, str(error)
    else:
        yield from _unknown_steps(expression, path, known, before)


def _template(
    source: Any, path: str, names: frozenset[str], known: frozenset[str], before: frozenset[str] | None = None
) -> Iterator[tuple[str, str]]:
    try:
        template = compile_template(source, names, owner="publishing")
        for expression in template.expressions:
            check_bounds(expression)
    except ExpressionError as error:
        yield path, str(error)
    else:
        for expression in template.expressions:
            yield from _unknown_steps(expression, path, known, before)


def _unknown_steps(
    expression: Expression, path: str, known: frozenset[str], before: frozenset[str] | None
) -> Iterator[tuple[str, str]]:
    """Steps that do not exist, or (with `before`) that need not have ended when the expression is read."""
    for key in sorted(expression.steps):
        if key not in known:
            yield path, f"`{expression.source}` reads the unknown step {key!r}{did_you_mean(key, known)}"
        elif before is not None and key not in before:
            yield path, f"`{expression.source}` reads {key!r}, which may not have ended by then: add it to needs"
