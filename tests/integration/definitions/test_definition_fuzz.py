"""Random definitions: refused with a word, or published and triggered; never a traceback."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflows import services
from workflows.definitions import document
from workflows.definitions.validate import parse
from workflows.engine.state import flow_cache
from workflows.errors import WorkflowsError
from workflows.models import Organization

odd = st.sampled_from(
    [None, True, 0, -1, 2**70, 1.5, "", "x", "é", "a\0b", "\ud800", "1e3", "${ input.n }", "${", "${ 1 + }", [], {}, [1], {"a": 1},
     {"$ref": "#/x"}, "P1D", "5m", "-5s", "steps.a.output", "input.n > 1", "event.data.n", "a/b", "prefix/*", "*"]
)  # fmt: skip


def mostly(*valid: Any) -> st.SearchStrategy[Any]:
    """One of these values or strategies, and now and then something odd."""
    listed = [each if isinstance(each, st.SearchStrategy) else st.just(each) for each in valid]
    return st.integers(0, 19).flatmap(lambda n: odd if n == 0 else st.sampled_from(listed).flatmap(lambda each: each))


def now_and_then(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A field that no place knows, seldom."""
    return st.integers(0, 29).flatmap(lambda n: strategy.map(lambda value: {"zzz": value}) if n == 0 else st.just({}))


expression = mostly("true", "input.n > 1", "event.data.n == 'x'", "has(event.data.n)", "1", "event.name")
key = mostly("event.data.n", "event.id", "org.slug", "string(size(event.data))")
schema = mostly({"type": "object"}, {"$ref": "#"}, {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}})
retry = st.fixed_dictionaries(
    {}, optional={"attempts": mostly(1, 3), "delay": mostly("1s", 500), "preset": mostly("demo")}
)
SHAPES: list[tuple[str, list[Any]]] = [
    ("noop", [{}, {"output": 1}, {"output": "${ input }"}]), ("delay", [{"for": "1h"}, {"for": 5}]),
    ("data_transform", [{"expression": "input"}, {"script": "1"}]), ("http_request", [{"url": "http://127.0.0.1/", "query": {"a": None}}]),
    ("wait_for_event", [{"event": "a/b", "timeout": "1h"}]), ("publish_event", [{"event": "fuzz/made"}]),
]  # fmt: skip
typed = st.sampled_from(SHAPES).flatmap(
    lambda shape: st.fixed_dictionaries({"type": mostly(shape[0]), "config": mostly(*shape[1])})
)
options = st.fixed_dictionaries(
    {},
    optional={"needs": mostly([]), "if": expression, "critical": mostly(True, False), "retry": retry, "timeout": mostly("5s"),
              "throttling": mostly({"concurrency": 2}, {"rate": {"limit": 5, "period": "1s"}, "key": "event.id"}), "name": mostly("x")},
)  # fmt: skip
step = st.tuples(typed, options, now_and_then(odd)).map(lambda parts: parts[0] | parts[1] | parts[2])
steps = st.lists(step, min_size=1, max_size=4).map(
    lambda made: [{"id": f"s{n}", **each} for n, each in enumerate(made)]
)
trigger = st.one_of(
    st.fixed_dictionaries({"event": mostly("a/b", "prefix/*")}, optional={"if": expression, "match": mostly("data.n"), "delay": mostly("1m")}),
    st.fixed_dictionaries({"cron": mostly("0 3 * * 7", "*/5 * * * *")}, optional={"timezone": mostly("Europe/Berlin"), "overlap": mostly("skip")}),
    st.fixed_dictionaries({"webhook": mostly("none"), "name": mostly("w/x")}, optional={"transform": mostly("{'n': body}")}),
)  # fmt: skip
whole = st.fixed_dictionaries(
    {"flow": st.just("fuzz"), "steps": steps},
    optional={"on": st.lists(trigger, max_size=2), "input_schema": schema, "priority": mostly(5, "1", "event.data.n"),
              "concurrency": mostly({"limit": 3, "key": "event.data.n"}, 4), "throttle": mostly({"limit": 1, "period": "1s"}),
              "timeouts": mostly({"start": "1m"}), "cancel_on": mostly({"event": "x/y"}), "output": mostly("${ input }", {"a": 1}),
              "retry": retry, "name": mostly("Fuzz"), "description": mostly("text")},
)  # fmt: skip
OF_CONTROLS: dict[str, dict[str, Any]] = {
    "debounce": {"period": "1s"},
    "batch": {"timeout": "1s"},
    "rate_limit": {"limit": 2, "period": "1s"},
}
control = st.sampled_from(["idempotency", "singleton", "debounce", "batch", "rate_limit"]).flatmap(
    lambda name: key.map(lambda value: {name: {"key": value, **OF_CONTROLS.get(name, {})}})
)
definitions = st.tuples(whole, st.just({}) | control, now_and_then(odd)).map(
    lambda parts: parts[0] | parts[1] | parts[2]
)


def test_what_validates_can_be_triggered(org: Organization) -> None:
    published: list[str] = []

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(definitions, st.booleans())
    def attempt(definition: dict[str, Any], as_yaml: bool) -> None:
        try:
            spec = parse(document.loads(json.dumps(definition), json_only=not as_yaml))
        except WorkflowsError:
            return
        stored = document.to_document(spec)
        assert parse(stored) == spec
        assert document.loads(document.dumps(stored)) == stored
        with contextlib.suppress(WorkflowsError):
            applied = services.apply_definition(org, spec)
            assert flow_cache.flow_of(applied.version.id).slug == "fuzz"
            published.append(str(applied.version.id))
        for data in ({}, {"n": "x"}, {"n": 2}):
            with contextlib.suppress(WorkflowsError):
                services.trigger(org, "fuzz", data)

    attempt()
    assert len(published) > 20
