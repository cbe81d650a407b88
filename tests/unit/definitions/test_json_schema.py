"""Schemas of users: within themselves, without a fetch, at a cost that is known before."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from workflows.definitions.json_schema import SchemaRefused, compile_schema, stored_schema
from workflows.definitions.validate import DefinitionProblems, parse


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a schema asked for {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


REFUSED: dict[str, tuple[Any, str]] = {
    "another address": ({"$ref": "http://127.0.0.2:8452/schema"}, r"schema\.\$ref: .*another document"),
    "a file": ({"properties": {"a": {"$ref": "file:///etc/hostname"}}}, r"schema\.properties\.a\.\$ref: .*another"),
    "an address in a dynamic reference": ({"$dynamicRef": "https://example.com/x#y"}, r"\$dynamicRef: .*another"),
    "an id that is resolved against another": (
        {"$id": "https://example.com/root", "$defs": {"a": {"$id": "https://other/b", "$ref": "c"}}},
        r"schema\.\$defs\.a\.\$ref: .*another",
    ),
    "a pointer into nowhere": (
        {"properties": {"item": {"$ref": "#/definitions/Item"}}, "$defs": {"Item": {}}},
        r"schema\.properties\.item\.\$ref: '#/definitions/Item' leads nowhere",
    ),
    "an anchor that is not there": ({"items": {"$ref": "#item"}}, r"schema\.items\.\$ref: '#item' leads nowhere"),
    "a pointer through a text": ({"title": "t", "$ref": "#/title/x"}, "leads nowhere"),
    "no schema": ([], "is an object"),
    "an unknown type": ({"properties": {"a": {"type": "strin"}}}, r"schema\.properties\.a\.type: no valid JSON Schema"),
    "a pattern that can't be read": ({"pattern": "["}, r"schema\.pattern"),
    "a pattern that explodes": ({"pattern": "[a-z]{1000}{1000}"}, r"schema\.pattern"),
    "old items": ({"items": [{"type": "string"}]}, r"schema\.items"),
    "too deep": (deep(200), "levels deep"),
    "too many": ({"anyOf": [{"const": n} for n in range(6_000)]}, "more than 5,000"),
}


@pytest.mark.parametrize(("schema", "says"), REFUSED.values(), ids=REFUSED)
def test_a_schema_that_leads_out_or_nowhere_is_refused_with_its_path(schema: Any, says: str) -> None:
    with pytest.raises(SchemaRefused, match=says):
        compile_schema(schema)


def test_every_bad_reference_of_a_schema_is_named() -> None:
    with pytest.raises(SchemaRefused) as raised:
        compile_schema({"properties": {"a": {"$ref": "#/x"}, "b": {"$ref": "http://h/y"}, "c": {"$ref": "#"}}})
    assert {problem.path for problem in raised.value.problems} == {
        ("properties", "a", "$ref"),
        ("properties", "b", "$ref"),
    }


def test_publishing_names_the_path_within_the_definition() -> None:
    with pytest.raises(DefinitionProblems, match=r"input_schema\.properties\.a\.\$ref: '#/x' leads nowhere"):
        parse(
            {
                "flow": "f",
                "input_schema": {"properties": {"a": {"$ref": "#/x"}}},
                "steps": [{"id": "a", "type": "noop"}],
            }
        )


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", 1),
        ({"$defs": {"a": {"$anchor": "A", "type": "string"}}, "$ref": "#A"}, "x", 1),
        ({"$defs": {"a": {"$id": "https://example.com/a", "type": "string"}}, "$ref": "https://example.com/a"}, "x", 1),
        ({"properties": {"next": {"$ref": "#"}}, "required": ["v"]}, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": {}}),
        ({"$ref": "#"}, 1, None),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "object"}, {"type": "nope"}),
        ({"const": {"$ref": "http://nowhere/x"}}, {"$ref": "http://nowhere/x"}, {}),
        ({"properties": {"$ref": {"type": "string"}, "default": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "null"}}},
         {"$ref": "x", "default": None}, {"default": 1}),
        ({"pattern": "^(?!internal)[a-z]+$"}, "public", "internal-x"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1], [1]),
    ],
)  # fmt: skip
def test_what_a_schema_may_say_it_may_still_say(schema: Any, good: Any, bad: Any) -> None:
    compiled = compile_schema(schema)
    assert compiled.problems(good) == []
    assert bad is None or compiled.problems(bad)


def test_problems_name_the_path_of_the_value() -> None:
    schema = {"properties": {"items": {"items": {"required": ["sku"], "properties": {"q": {"type": "integer"}}}}}}
    found = compile_schema(schema).problems({"items": [{"sku": "a"}, {"q": "x"}]})
    assert [problem.at("data") for problem in found] == ["data.items.1", "data.items.1.q"]
    assert "required" in found[0].message


def doubling(levels: int) -> dict[str, Any]:
    parts = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/l0", "$defs": {**parts, f"l{levels}": {"type": "integer"}}}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def unevaluated(levels: int) -> Any:
    schema: Any = True
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": {"type": "string"}}
    return schema


TWICE = {"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}
COSTLY: dict[str, tuple[Any, Any]] = {
    "references that double": (doubling(60), 1),
    "recursion that doubles": (TWICE, nested(60)),
    "many subschemas for many items": ({"items": {"allOf": [{"type": "integer"}] * 2_000}}, [1] * 50_000),
    "many alternatives for many items": ({"items": {"enum": [*range(4_000), "x"]}}, [3_999] * 20_000),
    "many patterns for many keys": (
        {"patternProperties": {f"a{n}": True for n in range(200)}}, {f"k{n}": 1 for n in range(30_000)}
    ),
    "unevaluated properties within each other": (unevaluated(30), {"k": "s"}),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "value"), COSTLY.values(), ids=COSTLY)
def test_what_would_take_too_long_is_refused_before_it_begins(schema: Any, value: Any) -> None:
    found = compile_schema(schema).problems(value)
    assert [problem.message for problem in found] == [
        "too large for this schema: checking it would take too many steps"
    ]


def test_counting_the_cost_costs_little_itself() -> None:
    schema = compile_schema({"items": {"properties": {f"p{n}": True for n in range(5_000)}}})
    begun = time.perf_counter()
    assert schema.problems([{} for _ in range(20_000)]) == []
    assert time.perf_counter() - begun < 3  # each property of each item, one by one: a minute


def test_a_pointer_of_many_digits_leads_nowhere() -> None:
    with pytest.raises(SchemaRefused, match="leads nowhere"):
        compile_schema({"allOf": [True], "$ref": "#/allOf/" + "9" * 5_000})


@pytest.mark.parametrize(
    ("patterns", "says"),
    [([rf"\P{{L}}{{180}}{n}" for n in range(60)], "regex"), ([f"a{n}" for n in range(300)], "more than 256 patterns")],
    ids=["large", "many"],
)
def test_the_patterns_of_a_schema_take_little_memory_together(patterns: list[str], says: str) -> None:
    """Sixty of 6 MiB each, compiled again for each event, were 390 MiB and 2.7 s."""
    with pytest.raises(SchemaRefused, match=says):
        compile_schema({"properties": {f"p{n}": {"pattern": pattern} for n, pattern in enumerate(patterns)}})
    compile_schema({"properties": {f"p{n}": {"pattern": patterns[n]} for n in range(4)}})


def test_small_values_pass_the_same_schemas() -> None:
    assert compile_schema(unevaluated(4)).problems({"k": "s"}) == []
    assert compile_schema({"items": {"enum": [1, 2, None]}}).problems([1, None, 2] * 1_000) == []
    assert compile_schema({"items": {"enum": [f"s{n}" for n in range(2_000)]}}).problems(["s1999"] * 20_000) == []
    assert compile_schema(TWICE).problems(nested(8)) == []
    assert compile_schema(doubling(10)).problems(1) == []


def test_patterns_that_backtrack_end() -> None:
    assert compile_schema({"pattern": "^(a+)+$"}).problems("a" * 60 + "!")
    assert compile_schema({"pattern": "^(?=a)(a|aa)+$"}).problems("a" * 5_000 + "!")


def test_a_large_misfit_is_told_in_short() -> None:
    found = compile_schema({"allOf": [{"const": n} for n in range(1_000)]}).problems("x" * 500_000)
    assert len(found) == 1
    assert len(found[0].message) < 400
    assert len(compile_schema({"items": {"type": "string"}}).problems([1] * 200_000)) <= 20


@pytest.mark.parametrize(
    ("schema", "good", "bad", "left_out"),
    [
        (
            {"properties": {"a": {"$ref": "#/x"}, "b": {"type": "string"}}},
            {"a": 1},
            {"b": 1},
            ("properties", "a", "$ref"),
        ),
        ({"required": ["a"], "$ref": "http://127.0.0.2:1/s"}, {"a": 1}, {}, ("$ref",)),
        ({"pattern": "^(?!b)\\w+$"}, "abc", "b", None),
        ({"items": [{"type": "string"}]}, [1], None, ("items",)),
        (deep(150), {"a": {}}, None, ()),
    ],
)
def test_a_stored_schema_goes_on_without_what_can_not_be_applied(
    schema: Any, good: Any, bad: Any, left_out: tuple[str, ...] | None
) -> None:
    stored = stored_schema(schema)
    assert stored.problems(good) == []
    assert bad is None or stored.problems(bad)
    assert [problem.path for problem in stored.left_out] == ([] if left_out is None else [left_out])


def test_half_a_character_is_a_problem_and_no_error() -> None:
    assert "surrogate" in compile_schema({"type": "string"}).problems("\ud800")[0].message
