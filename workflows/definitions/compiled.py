"""A published version as the engine uses it: compiled once a process, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from throttling.limits import StepPolicy
from throttling.policy import StepFacts
from workflows.definitions import graph as graphs
from workflows.definitions.discovered import Discovered, DiscoveredSteps
from workflows.definitions.json_schema import JsonSchema, stored_schema
from workflows.definitions.schema import FUNCTION, MAX_TIMEOUT_MS, FlowSpec, StepSpec
from workflows.definitions.step_facts import Owner, facts_of, has_keys, policy_of
from workflows.definitions.triggers import BatchSpec, DebounceSpec, RateLimitSpec, SingletonSpec
from workflows.duration import parse_ms
from workflows.errors import ConfigurationFailure
from workflows.expressions import STEP_UNITS, Expression, Template, compile_expression, compile_template
from workflows.steps.context import StepContext
from workflows.steps.registry import REGISTRY, Mode, StepConfig, StepType
from workflows.steps.tools import TOOLS


@dataclass(frozen=True, kw_only=True)
class CompiledStep:
    """One step, ready to be executed."""

    key: str
    position: int
    type: StepType
    mode: Mode
    needs: tuple[str, ...]
    successors: tuple[str, ...]
    is_sink: bool
    stops_run: bool
    """True where a failure of the step fails its run; in a container, its item."""
    policy: StepPolicy
    """As shipped and as the definition says; `facts` are what the live policy is found by."""
    facts: StepFacts
    timeout_ms: int
    given_timeout_ms: int | None
    """What the definition says itself."""
    condition: Expression | None
    deadline: Expression | None
    fallback: str | None
    """The step that runs where this one fails."""
    fallback_for: str | None
    is_compensation: bool
    """Stands outside the graph: it undoes another step."""
    on_failure: tuple[str, ...]
    on_cancel: tuple[str, ...]
    template: Template
    raw: Mapping[str, Any]
    constant: StepConfig | None = field(repr=False)
    """The validated configuration of a step without templates."""
    reads_steps: frozenset[str]
    reads_scope: bool
    reads_secrets: bool
    reads_input: bool
    reads_callbacks: bool
    branch_targets: frozenset[str]
    """Of a `conditional`: the steps of its branches."""
    container: str
    """The map, batch, loop or group that it stands in."""
    body: tuple[str, ...]
    """Of such a container: the steps directly in it."""
    body_sinks: int

    result_keys: list[str]
    """Of a container: the step whose output is an item's result (the last that is no fallback), and its fallbacks."""

    def render(self, scope: Mapping[str, Any]) -> tuple[StepConfig, Any]:
        """The validated configuration and what is kept of it as the attempt's input (None for a constant one).

        Raises ExpressionError (a template reads what is not there) or ConfigurationFailure (the rendered values do
        not fit the step type).
        """
        if self.constant is not None:
            return self.constant, None
        rendered = self.template.render(scope)
        try:
            return self.type.config_model.model_validate({**rendered, **self.raw}), rendered
        except ValidationError as error:
            details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise ConfigurationFailure(f"The configuration does not fit {self.type.name}: {details}") from None


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """Within the window, one value of `key` gives one run, unless `force` holds."""

    key: Expression
    window_s: float
    force: Expression | None


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What decides whether and when a run is made; None where the flow does not ask for it. `keys`: by control."""

    debounce: DebounceSpec | None
    batch: BatchSpec | None
    singleton: SingletonSpec | None
    rate_limit: RateLimitSpec | None
    keys: Mapping[str, Expression]

    @property
    def any(self) -> bool:
        return bool(self.debounce or self.batch or self.singleton or self.rate_limit)


@dataclass(frozen=True, kw_only=True)
class CompiledFlow:
    """A version: its steps by key, in the order of the definition."""

    version_id: UUID
    flow_id: UUID
    slug: str
    number: int
    steps: Mapping[str, CompiledStep]
    sinks: int
    org_id: UUID
    priority: Expression | int
    tags: tuple[Template | str, ...]
    output: Template | None
    compensations: frozenset[str]
    start_ms: int | None
    finish_ms: int | None
    idempotency: Idempotency | None
    controls: Controls
    on_failure: str | None
    alert_on_failure: bool
    callbacks: tuple[str, ...]
    """The steps that wait for their callback addresses."""
    chains: Mapping[str, tuple[str, ...]]
    """By step: its fallbacks, in the order in which they are tried."""
    driver: str | None
    """Of a flow in Python: the step that visits its function."""
    input_schema: JsonSchema | None = field(repr=False)

    @property
    def top(self) -> list[str]:
        """The steps of its graph: those in containers and those that undo others stand outside."""
        return [key for key, step in self.steps.items() if not step.container and not step.is_compensation]

    def containers_of(self, key: str) -> list[str]:
        """The containers that a step stands in, the outermost first."""
        around: list[str] = []
        while key := self.steps[key].container:
            around.insert(0, key)
        return around

    def outermost(self, key: str) -> str:
        """The step of the graph that a step stands in, or is; of one that a function has asked for, the function's."""
        if self.driver is not None:
            return self.driver
        return (self.containers_of(key) or [key])[0]

    def with_fallbacks(self, keys: Iterable[str]) -> set[str]:
        """The steps, and those that may stand in for them."""
        return {each for key in keys for each in (key, *self.chains.get(key, ()))}

    def input_problems(self, value: Any) -> list[str]:
        """What is wrong with an input by the flow's `input_schema`, each with its path. Of a batch: with each event."""
        if self.input_schema is None:
            return []
        if self.controls.batch and isinstance(value, dict) and isinstance(value.get("events"), list):
            datas = [each.get("data") if isinstance(each, dict) else each for each in value["events"]]
            return [f"events[{at}].{problem}" for at, data in enumerate(datas) for problem in self._problems(data)][:20]
        return self._problems(value)

    def _problems(self, value: Any) -> list[str]:
        assert self.input_schema is not None
        return [f"{problem.at('input')}: {problem.message}" for problem in self.input_schema.problems(value)]


NIL_UUID = UUID(int=0)


def compile_flow(
    spec: FlowSpec,
    *,
    version_id: UUID,
    flow_id: UUID,
    number: int = 0,
    org_id: UUID = NIL_UUID,
    find_discovered: Callable[[str], Discovered | None] = lambda _: None,
) -> CompiledFlow:
    """Compile a checked definition. `find_discovered`: of a flow in Python, a step by its name."""
    placed = list(graphs.walk_steps(spec.steps))
    chains = {key: each.graph.chain(key) for each in placed for key in each.graph.fallbacks}
    owner = Owner(flow_id=flow_id, org_id=org_id, number=number, spec=spec, chains=chains)
    declared = {each.step.id: _compile_step(each, position, owner) for position, each in enumerate(placed)}
    steps: Mapping[str, CompiledStep] = declared
    drivers = [step for step in declared.values() if step.type.name == FUNCTION]
    if drivers:
        steps = DiscoveredSteps(declared, find_discovered, lambda found: _compile_discovered(found, drivers[0], owner))
    graph = graphs.build(spec.steps)
    return CompiledFlow(
        version_id=version_id,
        flow_id=flow_id,
        slug=spec.flow,
        number=number,
        steps=steps,
        sinks=len(graph.sinks),
        org_id=org_id,
        priority=_priority(spec, org_id),
        tags=tuple(_tag(each, org_id) for each in spec.tags),
        output=compile_template(spec.output, owner=org_id) if spec.output is not None else None,
        compensations=graph.compensations,
        start_ms=spec.timeouts.start if spec.timeouts else None,
        finish_ms=spec.timeouts.finish if spec.timeouts else None,
        idempotency=_idempotency(spec, org_id),
        controls=_controls(spec, org_id),
        on_failure=spec.on_failure,
        alert_on_failure=spec.alert_on_failure,
        callbacks=tuple(key for key, step in steps.items() if step.type.name == "wait_for_callback"),
        chains=chains,
        driver=drivers[0].key if drivers else None,
        input_schema=stored_schema(spec.input_schema) if spec.input_schema else None,
    )


def _priority(spec: FlowSpec, org_id: UUID) -> Expression | int:
    return compile_expression(spec.priority, owner=org_id) if isinstance(spec.priority, str) else spec.priority or 0


def _tag(text: str, org_id: UUID) -> Template | str:
    return compile_template(text, owner=org_id) if "${" in text else text


def _idempotency(spec: FlowSpec, org_id: UUID) -> Idempotency | None:
    given = spec.idempotency
    if given is None:
        return None
    return Idempotency(
        key=compile_expression(given.key, owner=org_id, is_key=True),
        window_s=given.window / 1000,
        force=compile_expression(given.force, owner=org_id) if given.force else None,
    )


def _controls(spec: FlowSpec, org_id: UUID) -> Controls:
    given = {name: getattr(spec, name) for name in ("debounce", "batch", "singleton", "rate_limit")}
    keys = {
        name: compile_expression(each.key, owner=org_id, is_key=True)
        for name, each in given.items()
        if each is not None and each.key
    }
    return Controls(**given, keys=keys)


def _compile_step(placed: graphs.Placed, position: int, owner: Owner) -> CompiledStep:
    step, graph = placed.step, placed.graph
    step_type = REGISTRY[step.type]
    source, expressions = step_type.split_config(step.config)
    template = compile_template(source, owner=owner.org_id)
    inner = [compile_expression(each, owner=owner.org_id, units=STEP_UNITS) for _, each in expressions]
    condition, deadline = _optional(step.condition, owner), _optional(step.deadline, owner)
    fallback, is_compensation = graph.fallbacks.get(step.id), step.id in graph.compensations
    policy, retry = policy_of(step, owner)
    whole_scope = step_type.whole_scope(step.config)
    inside = graphs.build(step.steps) if step.steps else None
    last = [inner.id for inner in step.steps if not inner.fallback_for][-1:]
    raw = {name: value for name, value in step.config.items() if name in step_type.raw_fields}
    everything = [*template.expressions, *inner, *(each for each in (condition, deadline) if each)]
    names = frozenset().union(*(each.names for each in everything))
    read = placed.before if whole_scope else frozenset().union(*(e.steps for e in everything))
    return CompiledStep(
        key=step.id,
        position=position,
        type=step_type,
        mode=step_type.mode_of(step.config),
        needs=graph.needs[step.id],
        successors=graph.successors[step.id],
        is_sink=step.id in graph.sinks,
        stops_run=_is_critical(step, graph) and fallback is None and not is_compensation,
        policy=policy,
        facts=facts_of(step, step_type, retry, owner),
        timeout_ms=step.timeout or max(step_type.timeout_ms, _own_timeout_ms(step)),
        given_timeout_ms=step.timeout,
        condition=condition,
        deadline=deadline,
        fallback=fallback,
        fallback_for=step.fallback_for,
        is_compensation=is_compensation,
        on_failure=step.on_failure,
        on_cancel=step.on_cancel,
        template=template,
        raw=raw,
        constant=_constant(step_type, template, raw),
        reads_steps=frozenset(each for key in read for each in (key, *owner.chains.get(key, ()))),
        reads_scope=bool(everything or raw) or has_keys(step, owner) or step.type == FUNCTION,
        reads_secrets="secrets" in template.names,
        reads_input=whole_scope or bool({"input", "event"} & names),
        reads_callbacks="callbacks" in names,
        branch_targets=graph.branches.get(step.id, frozenset()),
        container=placed.container,
        body=tuple(inner.id for inner in step.steps),
        body_sinks=len(inside.sinks) if inside else 0,
        result_keys=[*last, *(inside.chain(last[0]) if inside and last else ())],
    )


def _compile_discovered(found: Discovered, driver: CompiledStep, owner: Owner) -> CompiledStep:
    """A step that a function has asked for: it stands outside the graph, and fails nothing but itself."""
    step = StepSpec.model_construct(id=found.name, **found.options)
    mode = Mode.ASYNC if REGISTRY[step.type].mode is Mode.ASYNC else driver.mode
    step_type = replace(
        REGISTRY[step.type],
        handler=_perform_call,
        mode=mode,
        config_model=StepConfig,
        max_batch=1,
        container=False,
    )
    policy, retry = policy_of(step, owner)
    nothing = compile_template({}, owner=owner.org_id)
    return replace(
        driver,
        key=found.name,
        type=step_type,
        mode=mode,
        is_sink=False,
        stops_run=False,
        policy=policy,
        facts=facts_of(step, step_type, retry, owner),
        timeout_ms=step.timeout or step_type.timeout_ms,
        given_timeout_ms=step.timeout,
        template=nothing,
        constant=StepConfig(),
        reads_scope=True,
    )


def _perform_call(context: StepContext) -> Any:
    return TOOLS.perform_call(context)


def _optional(source: str | None, owner: Owner) -> Expression | None:
    return compile_expression(source, owner=owner.org_id) if source else None


def _constant(step_type: StepType, template: Template, raw: dict[str, Any]) -> StepConfig | None:
    """The configuration of a step whose template reads nothing."""
    if not template.is_constant:
        return None
    return step_type.config_model.model_validate({**template.render({}), **raw})


def _is_critical(step: StepSpec, graph: graphs.Graph) -> bool:
    """A fallback is as critical as what it stands in for, unless it says otherwise."""
    while step.critical is None and step.fallback_for and step.fallback_for in graph.steps:
        step = graph.steps[step.fallback_for]
    return step.critical is not False


def _own_timeout_ms(step: StepSpec) -> int:
    """A timeout within the config (`http_request`, sandboxes) with time to report it."""
    own = step.config.get("timeout")
    try:
        return min(parse_ms(own) + 5_000, MAX_TIMEOUT_MS) if own is not None else 0
    except ValueError:
        return 0  # a template: known at the attempt, and bounded by the type's timeout
