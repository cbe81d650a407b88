from typing import Any

import pytest

from workflows.definitions import document
from workflows.definitions.compiled import CompiledFlow, compile_flow
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.steps.registry import REGISTRY

NOOP = {"id": "a", "type": "noop"}


def flow(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"flow": "f", "steps": list(steps), **more}


def compiled(*steps: dict[str, Any], **more: Any) -> CompiledFlow:
    unknown: Any = None
    return compile_flow(parse(flow(*steps, **more)), version_id=unknown, flow_id=unknown)


def step(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "noop", **more}


@pytest.mark.parametrize(
    ("bad", "path", "says"),
    [
        (flow(step("a", needs=["b"]), step("b", needs=["a"])), "steps", "cycle in needs: a → b → a"),
        (flow({"id": "a", "type": "nope"}), "steps[0].type", "did you mean 'noop'"),
        (flow(step("a", needs=["x"])), "steps[0].needs", "unknown step 'x'"),
        (flow(NOOP, NOOP), "steps", "duplicate id 'a' (2 times)"),
        (flow(step("a", **{"if": "1 +"})), "steps[0].if", "line 1, column 4"),
        (flow(step("a", config={"output": "${ inptu.x }"})), "steps[0].config", "did you mean 'input'"),
        (flow(step("a", config={"output": "${ steps['zz'].output }"})), "steps[0].config", "unknown step 'zz'"),
        (flow(step("a", nedes=[])), "steps[0].nedes", "did you mean 'needs'"),
        (flow(step("a", config={"outptu": 1})), "steps[0].config.outptu", "did you mean 'output'"),
        (flow({"id": "a", "type": "http_request"}), "steps[0].config.url", "Field required"),
        (flow(NOOP, outputs=1), "outputs", "did you mean 'output'"),
        (flow(), "steps", "at least 1"),
        (flow(step("1 a")), "steps[0].id", "pattern"),
        (flow(step("a", timeout="soon")), "steps[0].timeout", "is no duration"),
        (flow(step("a", retry={"preset": "emial"})), "steps[0].retry.preset", "unknown preset"),
        (flow(step("a", retry={"attempts": 2, "retries": 1})), "steps[0].retry", "not both"),
        (flow(step("a", retry={"delay": "5m", "max_delay": "1m"})), "steps[0].retry", "max_delay"),
        (flow(NOOP, on=[{"cron": "61 * * * *"}]), "on[0].cron", "is no cron schedule"),
        (flow(NOOP, on=[{"cron": "* * * *"}]), "on[0].cron", "4 fields"),
        (flow(NOOP, on=[{"event": "a", "cron": "* * * * *"}]), "on[0]", "one of event, cron and webhook"),
        (flow(NOOP, on=[{"event": "a", "if": "input.x"}]), "on[0].if", "unknown name 'input'"),
        (flow(NOOP, input_schema={"type": "objekt"}), "input_schema.type", "no valid JSON Schema"),
        (flow({"id": "a", "type": "conditional", "config": {"branches": [{"if": "true", "then": ["gone"]}]}}), "steps[0].config", "unknown step 'gone'"),
        (flow({"id": "a", "type": "data_transform", "config": {}}), "steps[0].config", "either expression"),
        (flow(step("a", config={"output": "${ secrets.X }"})), "steps[0].config", "unknown name 'secrets'"),
        (flow(step("a", **{"if": "sizee(input.x) > 0"})), "steps[0].if", "unknown function 'sizee'"),
        (flow(step("a", throttling={"concurrency": 1, "key": "evnt.x"})), "steps[0].throttling.key", "did you mean 'event'"),
        (flow(step("a"), step("b", needs=[], **{"if": "steps.a.output"})), "steps[1].if", "add it to needs"),
        (flow(step("a"), step("b", **{"if": "steps[input.k].output"})), "steps[1].if", "steps['key']"),
        (flow(step("a", timeout="30d")), "steps[0].timeout", "less than or equal"),
        (flow({"id": "a", "type": "data_transform", "config": {"expression": "1", "script": "1", "input": "${ input.x }"}}), "steps[0].config", "either expression"),
        ({"steps": [NOOP]}, "flow", "Field required"),
        ([], "", "a definition is a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(bad: Any, path: str, says: str) -> None:
    with pytest.raises(DefinitionProblems) as caught:
        parse(bad, file="f.yaml")
    found = {problem.path: problem.reason for problem in caught.value.problems}
    assert path in found, found
    assert says in found[path]
    assert str(caught.value).startswith("f.yaml: ")


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(DefinitionProblems) as caught:
        parse(flow({"id": "a", "type": "nope"}, step("b", needs=["x"], **{"if": "1 +"})))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [("flow: [", "line 1"), ("a: b: c", "column 5"), ("{", "line 1"), ("flow: f\nsteps: *nowhere", "undefined alias")],
)
def test_malformed_yaml_names_line_and_column(text: str, says: str) -> None:
    with pytest.raises(DefinitionProblems, match=says):
        document.loads(text, file="f.yaml")


def test_malformed_json_names_line_and_column() -> None:
    with pytest.raises(DefinitionProblems, match="line 1, column 3"):
        document.loads("{ flow: 1}", file="f.json", json_only=True)


def test_on_is_a_key_in_yaml() -> None:
    assert document.loads("on: [{event: a/b}]\nyes: no\nt: true") == {"on": [{"event": "a/b"}], "yes": "no", "t": True}


def test_a_definition_reads_back_from_its_export() -> None:
    source = flow(
        step("a", retry={"preset": "payment"}, timeout="90s", throttling={"rate": {"limit": 5, "period": "60s"}}),
        step("b", **{"if": "input.x > 0"}),
        on=[{"event": "a/b", "if": "event.data.x > 0"}],
    )
    stored = document.to_document(parse(source))
    for form in ("yaml", "json"):
        assert document.to_document(parse(document.loads(document.dumps(stored, form=form)))) == stored


def test_a_step_needs_the_previous_one_unless_it_says_otherwise() -> None:
    steps = compiled(step("a"), step("b"), step("c", needs=[]), step("d", needs=["a", "c"])).steps
    assert [steps[key].needs for key in "abcd"] == [(), ("a",), (), ("a", "c")]
    assert [steps[key].is_sink for key in "abcd"] == [False, True, False, True]


def test_a_step_in_a_branch_needs_the_conditional() -> None:
    decide = {"id": "x", "type": "conditional", "config": {"branches": [{"if": "true", "then": ["b"]}], "else": ["c"]}}
    steps = compiled(step("a"), decide, step("b"), step("c"), step("d", needs=["b", "c"])).steps
    assert [steps[key].needs for key in "bcd"] == [("x",), ("x",), ("b", "c")]


def test_the_legacy_spelling_is_accepted() -> None:
    spec = parse(
        flow(
            {
                "id": "bulk-import",
                "type": "sandbox_sync",
                "config": {
                    "code": "1",
                    "critical": True,
                    "throttlingOverride": {
                        "concurrency": 1,
                        "rateLimit": {"maxExecutions": 5, "perMilliseconds": 60000},
                        "retry": {"maxAttempts": 4, "backoff": {"type": "fixed", "delay": 100}},
                    },
                },
            },
            on=[{"type": "cron", "config": {"schedule": "*/5 * * * *"}}],
        )
    )
    found = spec.steps[0]
    assert found.critical is True
    assert found.throttling is not None
    assert found.throttling.rate is not None
    assert (found.throttling.concurrency, found.throttling.rate.limit, found.throttling.rate.period) == (1, 5, 60_000)
    assert spec.on[0].cron == "*/5 * * * *"
    unknown: Any = None
    policy = compile_flow(spec, version_id=unknown, flow_id=unknown).steps["bulk-import"].policy.retry
    assert (policy.max_attempts, policy.backoff, policy.delay_ms) == (4, "fixed", 100)


@pytest.mark.parametrize(
    ("config", "concurrency", "attempts"),
    [({}, 5, 3), ({"critical": True}, 2, 5), ({"critical": False}, 5, 3)],
)
def test_the_stricter_policy_applies_only_where_critical_is_written(
    config: dict[str, Any], concurrency: int, attempts: int
) -> None:
    policy = compiled({"id": "a", "type": "http_request", "config": {"url": "https://x", **config}}).steps["a"].policy
    assert (policy.concurrency, policy.retry.max_attempts) == (concurrency, attempts)


def test_a_thousand_steps_in_a_row_compile() -> None:
    steps = compiled(*[step(f"s{i}") for i in range(1_000)]).steps
    assert steps["s999"].needs == ("s998",)


def test_every_type_has_a_summary_and_a_documented_model() -> None:
    for step_type in REGISTRY.values():
        assert step_type.summary
        assert step_type.config_model.__doc__
